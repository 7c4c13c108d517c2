//! PostgreSQL and Kafka away, frozen, cut.

use std::time::Duration;

use notifier::Config;
use runtime::{ServiceRuntime, clock::Clock};
use testkit::Proxy;
use tokio_util::sync::CancellationToken;

use crate::test_env::{PATIENCE, TestEnv, Worker};

/// The notifier's settings with its database behind a wire.
async fn behind_a_wire(env: &TestEnv, is_cut: bool) -> (Config, Proxy) {
    let network = Proxy::to_postgres().await;
    if is_cut {
        network.cut();
    }
    (env.config_on(&env.database.url_at(network.addr()), &env.kafka.bootstrap), network)
}

async fn starts_when_mended(env: &TestEnv, config: Config, network: &Proxy, part: &str) -> Worker {
    let runtime = ServiceRuntime::new("notifier", CancellationToken::new(), Clock::system());
    let story = async {
        let named = async || {
            runtime.readiness.report().await.parts.iter().any(|known| known.name.starts_with(part) && !known.up)
        };
        testkit::wait_for("readiness to name it", PATIENCE, named).await;
        network.heal();
    };
    let (started, ()) = tokio::join!(notifier::start(config, &runtime), story);
    started.expect("it starts");
    let id = env.tell(&env.person(), &["At last."]).await[0];
    env.wait_for_status(id, "sent").await;
    Worker { runtime }
}

#[tokio::test]
async fn postgres_away_at_start_is_waited_for_and_named() {
    let env = TestEnv::new().await;
    let (config, network) = behind_a_wire(&env, true).await;
    starts_when_mended(&env, config, &network, "postgres").await.stop().await;
}

/// A Kafka that is reached through a wire.
async fn kafka_behind_a_wire() -> (TestEnv, testkit::Kafka, Proxy) {
    let network = Proxy::unconnected().await;
    let kafka = testkit::kafka_behind(network.addr().port()).await;
    network.lead_to(kafka.behind_proxy().expect("a second listener"));
    (TestEnv::on(kafka.bootstrap.clone(), testkit::topics()).await, kafka, network)
}

#[tokio::test]
async fn kafka_away_at_start_is_waited_for_and_named() {
    let (env, _kafka, network) = kafka_behind_a_wire().await;
    network.cut();
    let config = env.config_on(&env.database.url, &network.addr().to_string());
    starts_when_mended(&env, config, &network, "kafka").await.stop().await;
}

#[tokio::test]
async fn a_stop_while_it_waits_at_start_is_prompt() {
    let env = TestEnv::new().await;
    let (config, _network) = behind_a_wire(&env, true).await;
    let runtime = ServiceRuntime::new("notifier", CancellationToken::new(), Clock::system());
    let story = async {
        let named =
            async || runtime.readiness.report().await.parts.iter().any(|part| part.name == "postgres" && !part.up);
        testkit::wait_for("readiness to name postgres", PATIENCE, named).await;
        runtime.tasks.stopping().cancel();
    };
    let (started, ()) = tokio::join!(notifier::start(config, &runtime), story);
    assert!(started.expect_err("it stopped").is::<runtime::StoppedEarly>());
}

#[tokio::test]
async fn a_database_that_is_cut_off_for_five_seconds_loses_and_repeats_nothing() {
    let env = TestEnv::new().await;
    let (config, network) = behind_a_wire(&env, false).await;
    let worker = env.start_with(config).await;
    env.wait_until_leading(&worker).await;
    let people: Vec<_> = (0..10).map(|_| env.person()).collect();
    env.telegram.takes(Duration::from_millis(300));
    for person in &people {
        env.tell(person, &["one"]).await;
    }
    testkit::wait_for("calls", PATIENCE, async || !env.telegram.sent().is_empty()).await;
    network.cut();
    for person in &people {
        env.tell(person, &["two"]).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await; // The length of the cut.
    network.heal();
    env.wait_for_count("sent", 20).await;
    assert!(people.iter().all(|person| env.telegram.read_in(person.chat).len() == 2), "{:?}", env.telegram.sent());
    worker.stop().await;
}

/// Long enough for the lease to be lost while calls are answered: the outcomes are kept and written when the database
/// is back, and no user reads anything twice.
#[tokio::test]
async fn a_database_that_is_frozen_for_twenty_seconds_loses_and_repeats_nothing() {
    let env = TestEnv::new().await;
    let (config, network) = behind_a_wire(&env, false).await;
    let worker = env.start_with(config).await;
    env.wait_until_leading(&worker).await;
    let people: Vec<_> = (0..10).map(|_| env.person()).collect();
    env.telegram.takes(Duration::from_millis(500));
    for person in &people {
        env.tell(person, &["one"]).await;
    }
    testkit::wait_for("calls", PATIENCE, async || env.telegram.sent().len() >= 5).await;
    network.freeze();
    for person in &people {
        env.tell(person, &["two"]).await;
    }
    tokio::time::sleep(Duration::from_secs(20)).await; // The length of the freeze.
    network.heal();
    env.wait_for_count("sent", 20).await;
    assert!(people.iter().all(|person| env.telegram.read_in(person.chat).len() == 2), "{:?}", env.telegram.sent());
    worker.stop().await;
}

#[tokio::test]
async fn a_kafka_that_is_cut_off_for_five_seconds_loses_and_repeats_nothing() {
    let (env, _kafka, network) = kafka_behind_a_wire().await;
    let worker = env.start_with(env.config_on(&env.database.url, &network.addr().to_string())).await;
    let person = env.person();
    let before = env.tell(&person, &["one"]).await[0];
    env.wait_for_status(before, "sent").await;
    network.cut();
    let cut_for = tokio::time::sleep(Duration::from_secs(5));
    let during = env.tell(&person, &["two"]).await[0];
    let named =
        async || worker.runtime.readiness.report().await.parts.iter().any(|part| part.name == "kafka" && !part.up);
    testkit::wait_for("readiness to name kafka", PATIENCE, named).await;
    cut_for.await;
    assert_eq!(env.status(during).await, None);
    network.heal();
    env.wait_for_status(during, "sent").await;
    assert_eq!(env.telegram.read_in(person.chat).len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_kafka_that_is_frozen_for_twenty_seconds_loses_and_repeats_nothing() {
    let (env, kafka, network) = kafka_behind_a_wire().await;
    let worker = env.start_with(env.config_on(&env.database.url, &network.addr().to_string())).await;
    let person = env.person();
    let before = env.tell(&person, &["one"]).await[0];
    env.wait_for_status(before, "sent").await;
    let frozen = kafka.freeze();
    tokio::time::sleep(Duration::from_secs(20)).await; // The length of the freeze.
    drop(frozen);
    let after = env.tell(&person, &["two"]).await[0];
    env.wait_for_status(after, "sent").await;
    assert_eq!(env.telegram.read_in(person.chat).len(), 2);
    worker.stop().await;
}
