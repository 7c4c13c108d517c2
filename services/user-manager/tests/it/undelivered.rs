//! What a person was not told, and how the notifier hears of chats.

use std::sync::{Arc, Mutex};

use proto::v1::{
    ChatLinkedResponse, UndeliveredReason, UndeliveredReport, UserRequest,
    notifier_service_server::{NotifierService, NotifierServiceServer},
};
use runtime::{ServiceRuntime, clock::Clock, listen::Listen};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use crate::test_env::{PATIENCE, Service, TestEnv, config, runtime};

/// A notifier that fails the first call.
#[derive(Clone, Default)]
struct ToldNotifier(Arc<Mutex<Vec<UserRequest>>>);

#[tonic::async_trait]
impl NotifierService for ToldNotifier {
    async fn chat_linked(&self, request: Request<UserRequest>) -> Result<Response<ChatLinkedResponse>, Status> {
        let mut told = self.0.lock().expect("a lock");
        told.push(request.into_inner());
        if told.len() == 1 {
            Err(Status::unavailable("once"))
        } else {
            Ok(Response::new(ChatLinkedResponse::default()))
        }
    }
}

fn report(user_id: Uuid, version: i64, count: i64, reason: UndeliveredReason) -> UndeliveredReport {
    let (user_id, reason) = (user_id.to_string(), reason.into());
    UndeliveredReport { user_id, version, count, last_at_unix_ms: 1_800_000_000_123, reason }
}

#[tokio::test]
async fn what_was_not_delivered_is_shown_with_the_reason_and_the_newest_report_counts() {
    let env = TestEnv::new().await;
    for email in ["ada@example.org", "bob@example.org"] {
        env.service.register(email).await;
    }
    let id = env.id_of("ada@example.org").await;
    assert!(env.service.show("ada@example.org").await.body.get("undelivered").is_none());
    env.service.report(report(id, 2, 3, UndeliveredReason::Blocked)).await.expect("taken");
    env.service.report(report(id, 1, 9, UndeliveredReason::NoChat)).await.expect("ignored");
    let shown = env.service.show("ada@example.org").await.expect(200).body;
    let expected = json!({"count": 3, "last_at": "2027-01-15T08:00:00.123Z", "reason": "the bot is blocked"});
    assert_eq!(shown["undelivered"], expected);
    assert!(env.service.show("bob@example.org").await.body.get("undelivered").is_none());
    env.service.report(report(id, 3, 0, UndeliveredReason::Unspecified)).await.expect("taken");
    assert!(env.service.show("ada@example.org").await.body.get("undelivered").is_none());
}

#[tokio::test]
async fn a_report_that_makes_no_sense_is_refused_and_one_about_nobody_is_ignored() {
    let env = TestEnv::new().await;
    env.service.register("ada@example.org").await;
    let id = env.id_of("ada@example.org").await;
    let fine = report(id, 1, 1, UndeliveredReason::NoChat);
    for strange in [
        UndeliveredReport { user_id: "ada".to_owned(), ..fine.clone() },
        UndeliveredReport { count: -1, ..fine.clone() },
        UndeliveredReport { last_at_unix_ms: i64::MAX, ..fine.clone() },
    ] {
        let refused = env.service.report(strange).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    env.service
        .report(UndeliveredReport { user_id: Uuid::now_v7().to_string(), ..fine.clone() })
        .await
        .expect("ignored");
    // A reason of a later version.
    env.service.report(UndeliveredReport { reason: 77, ..fine }).await.expect("taken");
    let shown = env.service.show("ada@example.org").await.body;
    assert_eq!(shown["undelivered"]["reason"], "Telegram did not take the message");
}

#[tokio::test]
async fn whoever_names_a_chat_again_has_another_link_and_the_notifier_is_told() {
    let env = TestEnv::new().await;
    let told = ToldNotifier::default();
    let served = {
        let runtime = ServiceRuntime::new("notifier", CancellationToken::new(), Clock::system());
        let service = NotifierServiceServer::new(told.clone());
        grpc_edge::serve(&runtime, Listen::on_loopback().expect("a port"), service).await.expect("served")
    };
    let runtime = runtime();
    let notifier = tonic::transport::Endpoint::from_shared(format!("http://{}", served.addr)).expect("an address");
    let config = user_manager::Config { notifier: Some(notifier), ..config(&env.database.url, env.collector.addr) };
    let running = user_manager::start(config, &runtime).await.expect("a start");
    let service = Service::at(runtime, running.http, running.grpc);
    service.register("ada@example.org").await;
    let link = async || service.contact("ada@example.org", None).await.expect("an answer").chat_link.expect("a link");
    let before = link().await;
    for times in 1..=2 {
        service.link("ada@example.org", 7).await.expect(200);
        assert_eq!(link().await, before + times);
    }
    service.link("bob@example.org", 8).await.expect(404);
    let calls = async || told.0.lock().expect("a lock").len() == 3;
    testkit::wait_for("two words and a repeat", PATIENCE, calls).await;
    assert!(told.0.lock().expect("a lock").iter().all(|call| call.email == "ada@example.org"));
    service.stop().await;
}

#[tokio::test]
async fn a_notifier_that_is_away_holds_up_no_answer() {
    let env = TestEnv::new().await;
    let runtime = runtime();
    let nobody = tonic::transport::Endpoint::from_static("http://127.0.0.1:9");
    let config = user_manager::Config { notifier: Some(nobody), ..config(&env.database.url, env.collector.addr) };
    let running = user_manager::start(config, &runtime).await.expect("a start");
    let service = Service::at(runtime, running.http, running.grpc);
    service.register("ada@example.org").await;
    service.link("ada@example.org", 7).await.says(200, "Telegram chat ID updated successfully");
    assert_eq!(service.show("ada@example.org").await.body["telegram_chat_id"], 7);
    service.stop().await;
}
