//! PostgreSQL and Kafka away, frozen, cut.

use std::{net::SocketAddr, time::Duration};

use alert_system::Config;
use runtime::{ServiceRuntime, clock::Clock};
use testkit::Proxy;
use tokio_util::sync::CancellationToken;

use crate::test_env::{Interest, PATIENCE, TestEnv, Worker};

/// The worker's settings with its database behind a wire.
async fn behind_a_wire(env: &TestEnv, is_cut: bool) -> (Config, Proxy) {
    let network = Proxy::to_postgres().await;
    if is_cut {
        network.cut();
    }
    let config = env.config_with(&env.database.url_at(network.addr()), &env.kafka.bootstrap);
    (config, network)
}

async fn is_paused(worker: &Worker) {
    let paused = async || worker.metric("consumer_partitions_paused", "") > 0.0;
    testkit::wait_for("the partition to be paused", PATIENCE, paused).await;
}

async fn is_named(runtime: &ServiceRuntime, away: &str) {
    let named = async || {
        let parts = runtime.readiness.report().await.parts;
        parts.iter().any(|part| part.name.starts_with(away) && !part.up)
    };
    testkit::wait_for(&format!("readiness to name {away}"), PATIENCE, named).await;
}

/// Starts while `away` cannot be reached; heals the network once readiness has said so.
async fn start_with_one_away(config: Config, away: &str, network: &Proxy) -> Worker {
    let runtime = ServiceRuntime::new("alert-system", CancellationToken::new(), Clock::system());
    let story = async {
        is_named(&runtime, away).await;
        network.heal();
    };
    let (started, ()) = tokio::join!(alert_system::start(config, &runtime), story);
    started.expect("it starts");
    Worker { runtime }
}

#[tokio::test]
async fn postgres_away_at_start_is_waited_for_and_named() {
    let env = TestEnv::new().await;
    let (config, network) = behind_a_wire(&env, true).await;
    let worker = start_with_one_away(config, "postgres", &network).await;
    let interest = Interest::new();
    env.send(&[interest.reading(1, 11)]).await;
    env.settled().await;
    assert_eq!(env.kinds_of(&interest).await, ["high"]);
    worker.stop().await;
}

#[tokio::test]
async fn kafka_away_at_start_is_waited_for_and_named() {
    let env = TestEnv::new().await;
    let broker: SocketAddr = env.kafka.bootstrap.parse().expect("an address");
    let network = Proxy::to(broker).await;
    network.cut();
    let config = env.config_with(&env.database.url, &network.addr().to_string());
    let worker = start_with_one_away(config, "kafka", &network).await;
    let interest = Interest::new();
    env.send(&[interest.reading(1, 11)]).await;
    env.settled().await;
    assert_eq!(env.kinds_of(&interest).await, ["high"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_stop_while_everything_is_away_is_prompt_and_clean() {
    let env = TestEnv::new().await;
    let (config, _network) = behind_a_wire(&env, true).await;
    let runtime = ServiceRuntime::new("alert-system", CancellationToken::new(), Clock::system());
    let story = async {
        let named = async || !runtime.readiness.report().await.ready;
        testkit::wait_for("readiness to say so", PATIENCE, named).await;
        runtime.tasks.stopping().cancel();
    };
    let (started, ()) = tokio::join!(alert_system::start(config, &runtime), story);
    assert!(started.expect_err("stopped first").is::<runtime::StoppedEarly>());
}

#[tokio::test]
async fn a_frozen_postgres_is_waited_for_and_nothing_is_lost_or_repeated() {
    let env = TestEnv::new().await;
    let (config, network) = behind_a_wire(&env, false).await;
    let worker = env.start_with(config).await;
    let interests: Vec<_> = (0..20).map(|_| Interest::new()).collect();
    env.send(&interests.iter().map(|interest| interest.reading(1, 5)).collect::<Vec<_>>()).await;
    env.settled().await;
    network.freeze();
    env.send(&interests.iter().map(|interest| interest.reading(2, 11)).collect::<Vec<_>>()).await;
    is_paused(&worker).await;
    env.send(&interests.iter().map(|interest| interest.reading(3, 5)).collect::<Vec<_>>()).await;
    network.heal();
    env.settled().await;
    for interest in &interests {
        assert_eq!(interest.kinds_in(&env.ledger().await), ["high", "recovered"]);
    }
    // The alerts were acknowledged before the rows could be written, and were not produced again
    // with every attempt.
    assert_eq!(env.sent_alerts().await.len(), 2 * interests.len());
    worker.stop().await;
}

#[tokio::test]
async fn a_postgres_that_is_cut_off_is_waited_for_and_nothing_is_lost_or_repeated() {
    let env = TestEnv::new().await;
    let (config, network) = behind_a_wire(&env, false).await;
    let worker = env.start_with(config).await;
    let (known, new) = (Interest::new(), Interest::new());
    env.send(&[known.reading(1, 5)]).await;
    env.settled().await;
    network.cut();
    env.send(&[known.reading(2, 11), new.reading(1, 0)]).await;
    is_paused(&worker).await;
    let report = worker.runtime.readiness.report().await;
    assert!(!report.ready, "{report:?}");
    network.heal();
    env.settled().await;
    assert_eq!(env.kinds_of(&known).await, ["high"]);
    assert_eq!(env.kinds_of(&new).await, ["low"]);
    assert_eq!(env.sent_alerts().await.len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_kafka_that_is_cut_off_for_five_seconds_loses_and_repeats_nothing() {
    let network = Proxy::unconnected().await;
    let kafka = testkit::kafka_behind(network.addr().port()).await;
    network.lead_to(kafka.behind_proxy().expect("a second listener"));
    let env = TestEnv::on(kafka.bootstrap.clone(), testkit::topics()).await;
    let config = env.config_with(&env.database.url, &network.addr().to_string());
    let worker = env.start_with(config).await;
    let interests: Vec<_> = (0..50).map(|_| Interest::new()).collect();
    let tell = |seq, value| interests.iter().map(|interest| interest.reading(seq, value)).collect::<Vec<_>>();
    env.send(&tell(1, 11)).await;
    env.settled().await;
    network.cut();
    let cut_for = tokio::time::sleep(Duration::from_secs(5));
    env.send(&tell(2, 5)).await;
    is_named(&worker.runtime, "kafka").await;
    cut_for.await;
    network.heal();
    env.settled().await;
    let ledger = env.ledger().await;
    assert!(interests.iter().all(|interest| interest.kinds_in(&ledger) == ["high", "recovered"]));
    worker.stop().await;
}

#[tokio::test]
async fn a_frozen_kafka_is_waited_for_and_nothing_is_lost_or_invented() {
    let lone = TestEnv::alone().await;
    let env = &lone.env;
    let (mut config, network) = behind_a_wire(env, false).await;
    // A long session and a short timeout, so that the worker keeps its partitions and tries more than
    // once.
    config.kafka = config.kafka.with("session.timeout.ms", "60000").with("message.timeout.ms", "2000");
    let worker = env.start_with(config).await;
    let interest = Interest::new();
    env.settled().await;
    // The database is frozen first: the worker, which does not know the interest, has the message
    // in hand and nothing told when Kafka freezes too.
    network.freeze();
    env.send(&[interest.reading(1, 11)]).await;
    is_paused(&worker).await;
    let frozen = lone.kafka.freeze();
    network.heal();
    let attempts = || worker.metric("consumer_handle_seconds_count", "");
    let sent_alerts = worker.metric("alerts_total", "");
    let before = attempts();
    testkit::wait_for("an attempt to publish", PATIENCE, async || attempts() >= before + 2.0).await;
    assert!(worker.metric("alerts_total", "") == sent_alerts);
    drop(frozen);
    env.settled().await;
    assert_eq!(env.kinds_of(&interest).await, ["high"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_kafka_that_is_killed_in_the_middle_of_a_stream_loses_and_repeats_nothing() {
    let lone = TestEnv::alone().await;
    let env = &lone.env;
    let worker = env.start().await;
    let interests: Vec<_> = (0..20).map(|_| Interest::new()).collect();
    let rounds: i64 = 30;
    for round in 1..=rounds {
        let value = if round % 2 == 1 { 11 } else { 5 };
        let readings: Vec<_> = interests.iter().map(|interest| interest.reading(round, value)).collect();
        env.insist(&readings).await;
        if round == 10 || round == 20 {
            lone.kafka.kill();
        }
    }
    env.settled().await;
    let ledger = env.ledger().await;
    for interest in &interests {
        let sent_alerts = interest.kinds_in(&ledger);
        let expected: Vec<_> = ["high", "recovered"].repeat(15);
        assert_eq!(sent_alerts, expected);
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_stop_while_a_partition_is_paused_is_prompt_and_its_messages_come_again() {
    let env = TestEnv::new().await;
    let (config, network) = behind_a_wire(&env, false).await;
    let worker = env.start_with(config).await;
    let interest = Interest::new();
    network.cut();
    env.send(&[interest.reading(1, 11)]).await;
    is_paused(&worker).await;
    worker.stop().await;
    let worker = env.start().await;
    env.settled().await;
    assert_eq!(env.kinds_of(&interest).await, ["high"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_schema_that_is_not_ours_stops_the_worker_with_the_offset_unstored() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    sqlx::query("ALTER TABLE levels RENAME TO gone").execute(&env.database.pool).await.expect("renamed");
    let interest = Interest::new();
    env.send(&[interest.reading(1, 11)]).await;
    let error = worker.runtime.tasks.join().await.expect_err("it is broken");
    assert!(format!("{error:#}").contains("read levels"), "{error:#}");
    sqlx::query("ALTER TABLE gone RENAME TO levels").execute(&env.database.pool).await.expect("renamed");
    let worker = env.start().await;
    env.settled().await;
    assert_eq!(env.kinds_of(&interest).await, ["high"]);
    worker.stop().await;
}
