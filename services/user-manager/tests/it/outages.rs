//! PostgreSQL away at the start, in the middle, and frozen.

use std::time::{Duration, Instant};

use runtime::StoppedEarly;
use testkit::Proxy;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use user_manager::{MIGRATOR, start};

use crate::{
    collector::Collector,
    test_env::{Call, PATIENCE, Service, TestEnv, ada, config, fresh_key, runtime},
};

async fn env_on_a_wire() -> (TestEnv, Proxy) {
    let database = testkit::database(&MIGRATOR).await;
    let wire = Proxy::to_postgres().await;
    let collector = Collector::start().await;
    let service = Service::start(&database.url_at(wire.addr()), collector.addr).await;
    (TestEnv { database, collector, service }, wire)
}

/// Every call answers that it cannot, in time, and says when to try again.
async fn everything_is_unavailable(service: &Service) {
    let user = ada("eve@example.org");
    let calls = [
        service.call("POST", "/users").key(&fresh_key()).json(&user),
        service.call("GET", "/users"),
        service.call("GET", "/users/ada@example.org"),
        service.call("PATCH", "/users/ada@example.org").json(&serde_json::json!({"first_name": "A"})),
        service.call("DELETE", "/users/ada@example.org").key(&fresh_key()),
        service.call("POST", "/users/telegram").json(&serde_json::json!({"email": "a@b.cd", "telegram_chat_id": 1})),
    ];
    let begun = Instant::now();
    for answer in futures::future::join_all(calls.map(Call::send)).await {
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let asked = service.check("ada@example.org", None).await.expect_err("nobody can say");
    assert!([Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled].contains(&asked.code()), "{asked:?}");
    let ready = service.call("GET", "/readyz").send().await.expect(503).body.to_string();
    assert!(ready.contains("postgres"), "{ready}");
}

#[tokio::test]
async fn a_start_waits_for_the_database_and_answers_meanwhile_that_it_does() {
    let database = testkit::empty_database().await;
    let wire = Proxy::to_postgres().await;
    wire.cut();
    let collector = Collector::start().await;
    let runtime = runtime();
    let config = config(&database.url_at(wire.addr()), collector.addr);
    let addr = |listen: &runtime::listen::Listen| listen.addr().expect("an address");
    let service = Service::at(runtime.clone(), addr(&config.http_addr), addr(&config.grpc_addr));
    let waiting = async {
        everything_is_unavailable(&service).await;
        assert_eq!(service.check("a@b.cd", None).await.expect_err("nobody can say").code(), Code::Unavailable);
        assert_eq!(service.health().await, [ServingStatus::NotServing; 2], "nothing can be served yet");
        wire.heal();
    };
    let (started, ()) = futures::join!(start(config, &runtime), waiting);
    started.expect("a start");
    assert_eq!(service.health().await, [ServingStatus::Serving; 2]);
    service.register("ada@example.org").await;
    service.call("GET", "/readyz").send().await.expect(200);
}

#[tokio::test]
async fn a_stop_while_the_start_waits_is_a_clean_end() {
    let nowhere = testkit::free_addr();
    let runtime = runtime();
    let config = config(&format!("postgres://nobody@{nowhere}/nothing"), nowhere);
    let stop = async {
        let waiting = async || format!("{:?}", runtime.readiness.report().await).contains("cannot be reached");
        testkit::wait_for("the start to wait", PATIENCE, waiting).await;
        runtime.tasks.stopping().cancel();
    };
    let (started, ()) = futures::join!(start(config, &runtime), stop);
    assert!(started.expect_err("it was stopped").is::<StoppedEarly>());
    runtime.tasks.join().await.expect("a clean stop");
}

#[tokio::test]
async fn without_the_database_everything_is_unavailable_and_nothing_is_lost() {
    let (env, wire) = env_on_a_wire().await;
    env.service.register("ada@example.org").await;
    wire.cut();
    everything_is_unavailable(&env.service).await;
    wire.heal();
    let back = async || env.service.show("ada@example.org").await.status == 200;
    testkit::wait_for("the database to be used again", PATIENCE, back).await;
    // The relay has come through it too.
    env.service.delete("ada@example.org").await.expect(200);
    env.settled().await;
    assert_eq!(env.collector.calls().len(), 1);
}

#[tokio::test]
async fn a_frozen_database_holds_nobody_for_long() {
    let (env, wire) = env_on_a_wire().await;
    env.service.register("ada@example.org").await;
    wire.freeze();
    everything_is_unavailable(&env.service).await;
    wire.heal();
    let back = async || env.service.show("ada@example.org").await.status == 200;
    testkit::wait_for("the database to be used again", PATIENCE, back).await;
    let again =
        async || env.service.call("POST", "/users").key("k").json(&ada("bob@example.org")).send().await.status == 201;
    testkit::wait_for("a registration", PATIENCE, again).await;
}

#[tokio::test]
async fn connections_that_the_server_ended_are_replaced() {
    let env = TestEnv::new().await;
    env.service.register("ada@example.org").await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'user-manager'";
    assert!(env.count(end).await > 0);
    let back = async || env.service.show("ada@example.org").await.status == 200;
    testkit::wait_for("the database to be used again", PATIENCE, back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_reads_or_registers_sees_that_postgresql_restarted() {
    let env = TestEnv::new().await;
    env.service.register("ada@example.org").await;
    for round in 0..3 {
        // Every connection of the pool has just been used, so none is tested before it is lent again.
        let reading = (0..16).map(|_| env.service.show("ada@example.org"));
        futures::future::join_all(reading).await.into_iter().for_each(|answer| drop(answer.expect(200)));
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'user-manager'";
        assert!(env.count(ended).await > 1);
        let reading = (0..16).map(|_| env.service.show("ada@example.org"));
        let email = format!("eve{round}@example.org");
        let (read, ()) = tokio::join!(futures::future::join_all(reading), env.service.register(&email));
        read.into_iter().for_each(|answer| drop(answer.expect(200)));
        assert!(env.service.check("ada@example.org", None).await.expect("an answer").exists);
    }
}
