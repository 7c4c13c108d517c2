//! No interest outlives its user, and none of the next registration is touched.

use runtime::trace::RequestContext;
use tonic::Code;
use user_manager::MIGRATOR;

use crate::{
    collector::{Collector, Fault},
    test_env::{PATIENCE, Service, TestEnv, fresh_key},
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_deletion_is_relayed_at_once_with_its_id_and_cause() {
    let env = TestEnv::new().await;
    env.service.register("ada@example.org").await;
    let id = env.id_of("ada@example.org").await.to_string();
    let call = env.service.call("DELETE", "/users/ada@example.org").key(&fresh_key());
    let begun = std::time::Instant::now();
    call.header("x-request-id", "req-7").header("traceparent", TRACE).send().await.expect(200);
    testkit::wait_for("the call", PATIENCE, async || !env.collector.calls().is_empty()).await;
    // Sooner than the relay would have looked by itself.
    assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
    env.settled().await;
    let calls = env.collector.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].email.as_str(), calls[0].user_id.as_deref()), ("ada@example.org", Some(&*id)));
    assert_eq!(calls[0].context, RequestContext { request_id: Some("req-7".into()), traceparent: Some(TRACE.into()) });
    // The address is forgotten once no job needs it.
    assert_eq!(env.count("SELECT count(*) FROM jobs WHERE payload IS NOT NULL").await, 0);
}

#[tokio::test]
async fn whatever_goes_wrong_the_call_is_repeated_until_it_succeeds() {
    let env = TestEnv::new().await;
    env.collector.fail([
        Fault::Refused(Code::Unavailable),
        Fault::WithoutSuccess,
        Fault::Silent,
        Fault::Refused(Code::InvalidArgument),
    ]);
    env.service.register("ada@example.org").await;
    let id = env.id_of("ada@example.org").await.to_string();
    env.service.delete("ada@example.org").await.expect(200);
    env.settled().await;
    let calls = env.collector.calls();
    assert_eq!(calls.len(), 5);
    assert!(calls.iter().all(|call| call.user_id.as_deref() == Some(&id)), "{calls:?}");
}

#[tokio::test]
async fn a_deletion_while_data_collector_is_down_succeeds_and_is_relayed_when_it_is_back() {
    let database = testkit::database(&MIGRATOR).await;
    let addr = testkit::free_addr();
    let service = Service::start(&database.url, addr).await;
    service.register("ada@example.org").await;
    let old = service.check("ada@example.org", None).await.expect("an answer").user_id;
    service.delete("ada@example.org").await.says(200, "User deleted successfully");
    let tried = "SELECT count(*) FROM jobs WHERE attempts >= 2";
    let count = async || sqlx::query_scalar::<_, i64>(tried).fetch_one(&database.pool).await.expect("a count");
    testkit::wait_for("two calls in vain", PATIENCE, async || count().await == 1).await;
    // Registering again under the same address makes another person of them.
    service.register("ada@example.org").await;
    let new = service.check("ada@example.org", None).await.expect("an answer").user_id;
    assert_ne!(old, new);
    // The outbox outlives the replica.
    service.stop().await;
    let collector = Collector::at(addr).await;
    let service = Service::start(&database.url, addr).await;
    let env = TestEnv { database, collector, service };
    env.settled().await;
    let called: Vec<_> = env.collector.calls().into_iter().map(|call| call.user_id.expect("an id")).collect();
    assert_eq!(called, [old]);
    env.service.show("ada@example.org").await.expect(200);
    assert_eq!(env.service.check("ada@example.org", Some(&new)).await.expect("an answer").user_id, new);
}

#[tokio::test]
async fn several_replicas_relay_each_deletion_once() {
    let env = TestEnv::new().await;
    let other = Service::start(&env.database.url, env.collector.addr).await;
    let emails: Vec<_> = (0..40).map(|number| format!("user{number}@example.org")).collect();
    futures::future::join_all(emails.iter().map(|email| env.service.register(email))).await;
    let services = [&env.service, &other];
    let deletions = emails.iter().enumerate().map(|(number, email)| services[number % 2].delete(email));
    for answer in futures::future::join_all(deletions).await {
        answer.expect(200);
    }
    env.settled().await;
    let mut called: Vec<_> = env.collector.calls().into_iter().map(|call| call.email).collect();
    called.sort();
    let mut expected = emails;
    expected.sort();
    assert_eq!(called, expected);
}

#[tokio::test]
async fn a_deletion_by_a_replica_of_the_version_before_is_relayed_and_leaves_nothing_in_its_table() {
    let env = TestEnv::new().await;
    let written = "INSERT INTO deletions (user_id, email, request_id)
                   VALUES (gen_random_uuid(), 'old@example.org', 'req-1') RETURNING user_id::text";
    let id: String = sqlx::query_scalar(written).fetch_one(&env.database.pool).await.expect("it counts its row");
    env.settled().await;
    let calls = env.collector.calls();
    assert_eq!((calls[0].email.as_str(), calls[0].user_id.as_deref()), ("old@example.org", Some(&*id)));
    assert_eq!(calls[0].context.request_id.as_deref(), Some("req-1"));
    assert_eq!(env.count("SELECT count(*) FROM deletions").await, 0);
}

#[tokio::test]
async fn data_collector_being_down_is_named_and_does_not_decide() {
    let database = testkit::database(&MIGRATOR).await;
    let addr = testkit::free_addr();
    let service = Service::start(&database.url, addr).await;
    let part = async || {
        let report = service.call("GET", "/readyz").send().await.expect(200).body;
        let parts = report["services"][0]["parts"].as_array().expect("parts").clone();
        parts.into_iter().find(|part| part["name"] == "data-collector").expect("data-collector is named")
    };
    assert_eq!(part().await["up"], false);
    let collector = Collector::at(addr).await;
    testkit::wait_for("data-collector to be seen", PATIENCE, async || part().await["up"] == true).await;
    collector.stop().await;
    testkit::wait_for("data-collector to be missed", PATIENCE, async || part().await["up"] == false).await;
}

#[tokio::test]
async fn settled_deletions_are_kept_for_a_while_and_then_removed() {
    let env = TestEnv::new().await;
    for email in ["ada@example.org", "bob@example.org"] {
        env.service.register(email).await;
        env.service.delete(email).await.expect(200);
        env.settled().await;
    }
    let aged = "UPDATE jobs SET settled_at = now() - interval '31 days' WHERE id = (SELECT min(id) FROM jobs)";
    sqlx::query(aged).execute(&env.database.pool).await.expect("aged");
    // Cleaning happens at every start, and now and then.
    let _other = Service::start(&env.database.url, env.collector.addr).await;
    let left = async || env.count("SELECT count(*) FROM jobs").await;
    testkit::wait_for("the old one to go", PATIENCE, async || left().await == 1).await;
}
