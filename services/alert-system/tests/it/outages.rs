//! PostgreSQL and Kafka away, frozen, cut.

use std::{net::SocketAddr, time::Duration};

use alert_system::Config;
use runtime::{Shell, clock::Clock};
use testkit::Proxy;
use tokio_util::sync::CancellationToken;

use crate::world::{Interest, PATIENCE, Worker, World};

/// The worker's settings with its database behind a wire.
async fn behind_a_wire(world: &World, is_cut: bool) -> (Config, Proxy) {
    let network = Proxy::to_postgres().await;
    if is_cut {
        network.cut();
    }
    let config = world.config_with(&world.database.url_at(network.addr()), &world.kafka.bootstrap);
    (config, network)
}

async fn is_held(worker: &Worker) {
    let held = async || worker.metric("consumer_partitions_paused", "") > 0.0;
    testkit::wait_for("the partition to be held", PATIENCE, held).await;
}

async fn is_named(shell: &Shell, away: &str) {
    let named = async || {
        let parts = shell.readiness.report().await.parts;
        parts.iter().any(|part| part.name.starts_with(away) && !part.up)
    };
    testkit::wait_for(&format!("readiness to name {away}"), PATIENCE, named).await;
}

/// Starts while `away` cannot be reached; heals the network once readiness has said so.
async fn start_with_one_away(config: Config, away: &str, network: &Proxy) -> Worker {
    let shell = Shell::new("alert-system", CancellationToken::new(), Clock::system());
    let story = async {
        is_named(&shell, away).await;
        network.heal();
    };
    let (started, ()) = tokio::join!(alert_system::start(config, &shell), story);
    started.expect("it starts");
    Worker { shell }
}

#[tokio::test]
async fn postgres_away_at_start_is_waited_for_and_named() {
    let world = World::new().await;
    let (config, network) = behind_a_wire(&world, true).await;
    let worker = start_with_one_away(config, "postgres", &network).await;
    let interest = Interest::new();
    world.send(&[interest.reading(1, 11)]).await;
    world.settled().await;
    assert_eq!(world.told_of(&interest).await, ["high"]);
    worker.stop().await;
}

#[tokio::test]
async fn kafka_away_at_start_is_waited_for_and_named() {
    let world = World::new().await;
    let broker: SocketAddr = world.kafka.bootstrap.parse().expect("an address");
    let network = Proxy::to(broker).await;
    network.cut();
    let config = world.config_with(&world.database.url, &network.addr().to_string());
    let worker = start_with_one_away(config, "kafka", &network).await;
    let interest = Interest::new();
    world.send(&[interest.reading(1, 11)]).await;
    world.settled().await;
    assert_eq!(world.told_of(&interest).await, ["high"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_stop_while_everything_is_away_is_prompt_and_clean() {
    let world = World::new().await;
    let (config, _network) = behind_a_wire(&world, true).await;
    let shell = Shell::new("alert-system", CancellationToken::new(), Clock::system());
    let story = async {
        let named = async || !shell.readiness.report().await.ready;
        testkit::wait_for("readiness to say so", PATIENCE, named).await;
        shell.tasks.stopping().cancel();
    };
    let (started, ()) = tokio::join!(alert_system::start(config, &shell), story);
    assert!(started.expect_err("stopped first").is::<runtime::StoppedEarly>());
}

#[tokio::test]
async fn a_frozen_postgres_is_waited_for_and_nothing_is_lost_or_repeated() {
    let world = World::new().await;
    let (config, network) = behind_a_wire(&world, false).await;
    let worker = Worker::start(config).await;
    let interests: Vec<_> = (0..20).map(|_| Interest::new()).collect();
    world.send(&interests.iter().map(|interest| interest.reading(1, 5)).collect::<Vec<_>>()).await;
    world.settled().await;
    network.freeze();
    world.send(&interests.iter().map(|interest| interest.reading(2, 11)).collect::<Vec<_>>()).await;
    is_held(&worker).await;
    world.send(&interests.iter().map(|interest| interest.reading(3, 5)).collect::<Vec<_>>()).await;
    network.heal();
    world.settled().await;
    for interest in &interests {
        assert_eq!(interest.told_in(&world.ledger().await), ["high", "recovered"]);
    }
    // The alerts were acknowledged before the rows could be written, and were not produced again
    // with every attempt.
    assert_eq!(world.told().await.len(), 2 * interests.len());
    worker.stop().await;
}

#[tokio::test]
async fn a_postgres_that_is_cut_off_is_waited_for_and_nothing_is_lost_or_repeated() {
    let world = World::new().await;
    let (config, network) = behind_a_wire(&world, false).await;
    let worker = Worker::start(config).await;
    let (known, new) = (Interest::new(), Interest::new());
    world.send(&[known.reading(1, 5)]).await;
    world.settled().await;
    network.cut();
    world.send(&[known.reading(2, 11), new.reading(1, 0)]).await;
    is_held(&worker).await;
    let report = worker.shell.readiness.report().await;
    assert!(!report.ready, "{report:?}");
    network.heal();
    world.settled().await;
    assert_eq!(world.told_of(&known).await, ["high"]);
    assert_eq!(world.told_of(&new).await, ["low"]);
    assert_eq!(world.told().await.len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_kafka_that_is_cut_off_for_five_seconds_loses_and_repeats_nothing() {
    let network = Proxy::unconnected().await;
    let kafka = testkit::kafka_behind(network.addr().port()).await;
    network.lead_to(kafka.behind_proxy().expect("a second listener"));
    let world = World::on(kafka.bootstrap.clone(), testkit::topics()).await;
    let config = world.config_with(&world.database.url, &network.addr().to_string());
    let worker = Worker::start(config).await;
    let interests: Vec<_> = (0..50).map(|_| Interest::new()).collect();
    let tell = |seq, value| interests.iter().map(|interest| interest.reading(seq, value)).collect::<Vec<_>>();
    world.send(&tell(1, 11)).await;
    world.settled().await;
    network.cut();
    let cut_for = tokio::time::sleep(Duration::from_secs(5));
    world.send(&tell(2, 5)).await;
    is_named(&worker.shell, "kafka").await;
    cut_for.await;
    network.heal();
    world.settled().await;
    let ledger = world.ledger().await;
    assert!(interests.iter().all(|interest| interest.told_in(&ledger) == ["high", "recovered"]));
    worker.stop().await;
}

#[tokio::test]
async fn a_frozen_kafka_is_waited_for_and_nothing_is_lost_or_invented() {
    let lone = World::alone().await;
    let world = &lone.world;
    let (mut config, network) = behind_a_wire(world, false).await;
    // A long session and short patience, so that the worker keeps its partitions and tries more than once.
    config.kafka = config.kafka.with("session.timeout.ms", "60000").with("message.timeout.ms", "2000");
    let worker = Worker::start(config).await;
    let interest = Interest::new();
    world.settled().await;
    // The database is frozen first: the worker, which does not know the interest, has the message
    // in hand and nothing told when Kafka freezes too.
    network.freeze();
    world.send(&[interest.reading(1, 11)]).await;
    is_held(&worker).await;
    let frozen = lone.kafka.freeze();
    network.heal();
    let attempts = || worker.metric("consumer_handle_seconds_count", "");
    let told = worker.metric("alerts_total", "");
    let before = attempts();
    testkit::wait_for("an attempt to tell", PATIENCE, async || attempts() >= before + 2.0).await;
    assert!(worker.metric("alerts_total", "") == told);
    drop(frozen);
    world.settled().await;
    assert_eq!(world.told_of(&interest).await, ["high"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_kafka_that_is_killed_in_the_middle_of_a_stream_loses_and_repeats_nothing() {
    let lone = World::alone().await;
    let world = &lone.world;
    let worker = world.start().await;
    let interests: Vec<_> = (0..20).map(|_| Interest::new()).collect();
    let rounds: i64 = 30;
    for round in 1..=rounds {
        let value = if round % 2 == 1 { 11 } else { 5 };
        let readings: Vec<_> = interests.iter().map(|interest| interest.reading(round, value)).collect();
        world.insist(&readings).await;
        if round == 10 || round == 20 {
            lone.kafka.kill();
        }
    }
    world.settled().await;
    let ledger = world.ledger().await;
    for interest in &interests {
        let told = interest.told_in(&ledger);
        let expected: Vec<_> = ["high", "recovered"].repeat(15);
        assert_eq!(told, expected);
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_stop_while_a_partition_is_held_is_prompt_and_its_messages_come_again() {
    let world = World::new().await;
    let (config, network) = behind_a_wire(&world, false).await;
    let worker = Worker::start(config).await;
    let interest = Interest::new();
    network.cut();
    world.send(&[interest.reading(1, 11)]).await;
    is_held(&worker).await;
    worker.stop().await;
    let worker = world.start().await;
    world.settled().await;
    assert_eq!(world.told_of(&interest).await, ["high"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_schema_that_is_not_ours_stops_the_worker_with_the_offset_unstored() {
    let world = World::new().await;
    let worker = world.start().await;
    sqlx::query("ALTER TABLE levels RENAME TO gone").execute(&world.database.pool).await.expect("renamed");
    let interest = Interest::new();
    world.send(&[interest.reading(1, 11)]).await;
    let error = worker.shell.tasks.join().await.expect_err("it is broken");
    assert!(format!("{error:#}").contains("read levels"), "{error:#}");
    sqlx::query("ALTER TABLE gone RENAME TO levels").execute(&world.database.pool).await.expect("renamed");
    let worker = world.start().await;
    world.settled().await;
    assert_eq!(world.told_of(&interest).await, ["high"]);
    worker.stop().await;
}
