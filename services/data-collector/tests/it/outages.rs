//! Servers that are away, at start and in the middle.

use std::time::Duration;

use serde_json::json;
use shell::{Shell, postgres::Database};
use tokio_util::sync::CancellationToken;

use crate::{
    link::{Link, State},
    support::{App, PARIS, World, wait_for},
};

/// The part of a URL that says where the server is.
fn server_of(url: &str) -> &str {
    let (_, rest) = url.split_once('@').expect("a user");
    rest.split('/').next().expect("a server")
}

/// A world whose service reaches PostgreSQL over a link only.
async fn linked(state: State) -> (World, Link, Database) {
    let world = World::at_speed(60).await;
    world.person("ada@example.org");
    world.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    let server = server_of(&world.database_url).to_owned();
    let link = Link::to(server.clone(), state).await;
    let url = world.database_url.replace(&server, &link.addr.to_string());
    let database = Database::parse(&url.into()).expect("a database");
    (world, link, database)
}

async fn start(world: &World, database: Database) -> App {
    world
        .start_with(|config| {
            config.database = database;
            config.collect_interval = Duration::from_secs(60);
        })
        .await
}

/// Every reading so far has reached the interest, in order, none twice with another id.
async fn nothing_is_lost(world: &World, interest: uuid::Uuid) {
    wait_for("the fan-out", async || (world.scalar("SELECT count(*) FROM fan_outs").await == 0).then_some(())).await;
    let last = world.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await;
    let sent = world
        .wait_sent(interest, |sent| sent.last().is_some_and(|sent| sent["reading"]["seq"].as_i64() >= Some(last)))
        .await;
    let mut seqs: Vec<i64> = sent.iter().map(|sent| sent["reading"]["seq"].as_i64().expect("a number")).collect();
    let sorted = seqs.is_sorted();
    seqs.dedup();
    let expected: Vec<i64> = (1..=*seqs.last().expect("one")).collect();
    assert!(sorted && seqs == expected, "{seqs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_at_start_is_waited_for() {
    let (world, link, database) = linked(State::Cut).await;
    let shell = Shell::new("data-collector", CancellationToken::new(), world.clock);
    let mut config = world.config();
    config.database = database;
    let starting = data_collector::start(config, &shell);
    let named = async {
        let part = wait_for("readiness to name it", async || {
            let report = shell.readiness.report().await;
            report
                .parts
                .into_iter()
                .find(|part| part.detail.as_deref().is_some_and(|why| why.contains("cannot be reached")))
        });
        assert_eq!(part.await.name, "postgres");
        link.set(State::Open);
    };
    let (started, ()) = tokio::join!(starting, named);
    started.expect("it starts");
    shell.tasks.stopping().cancel();
    shell.tasks.join().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_server_can_be_stopped() {
    let (world, _link, database) = linked(State::Cut).await;
    let shell = Shell::new("data-collector", CancellationToken::new(), world.clock);
    let mut config = world.config();
    config.database = database;
    let starting = data_collector::start(config, &shell);
    let (ended, ()) = tokio::join!(starting, async { shell.tasks.stopping().cancel() });
    assert!(ended.expect_err("stopped").is::<shell::StoppedEarly>());
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_that_is_away_at_start_is_waited_for() {
    let world = World::new().await;
    let link = Link::to(world.kafka.clone(), State::Cut).await;
    let shell = Shell::new("data-collector", CancellationToken::new(), world.clock);
    let mut config = world.config();
    config.kafka.bootstrap = link.addr.to_string();
    let starting = data_collector::start(config, &shell);
    let named = async {
        wait_for("readiness to name it", async || {
            let report = shell.readiness.report().await;
            report.parts.iter().any(|part| part.name.starts_with("kafka") && !part.up).then_some(())
        })
        .await;
        link.set(State::Open);
    };
    let (started, ()) = tokio::join!(starting, named);
    started.expect("it starts");
    shell.tasks.stopping().cancel();
    shell.tasks.join().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_cut_off_for_five_seconds_loses_nothing() {
    let (world, link, database) = linked(State::Open).await;
    let app = start(&world, database).await;
    let id = app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() >= Some(2)).await;
    link.set(State::Cut);
    let body = json!({"email": "ada@example.org", "airport_code": "EGLL", "metric": "live", "high_value": 1});
    let refused = app.post(body.clone()).await;
    assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true), "{}", refused.body);
    assert!(!app.is_ready().await);
    tokio::time::sleep(Duration::from_secs(5)).await; // The length of the cut, not a wait.
    link.set(State::Open);
    wait_for("the service to be ready", async || app.is_ready().await.then_some(())).await;
    wait_for("the interest", async || (app.post(body.clone()).await.status == 201).then_some(())).await;
    app.wait_reading("EGLL", "live", |_| true).await;
    let before = world.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() > Some(before)).await;
    nothing_is_lost(&world, id).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_frozen_for_twenty_seconds_loses_nothing() {
    let (world, link, database) = linked(State::Open).await;
    let app = start(&world, database).await;
    let id = app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() >= Some(2)).await;
    link.set(State::Frozen);
    let frozen_at = std::time::Instant::now();
    assert_eq!(app.get("/readings/LFPG").await.status, 503);
    assert!(!app.is_ready().await);
    tokio::time::sleep(Duration::from_secs(20).saturating_sub(frozen_at.elapsed())).await; // The length of the freeze.
    link.set(State::Open);
    wait_for("the service to be ready", async || app.is_ready().await.then_some(())).await;
    let before = world.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() > Some(before)).await;
    nothing_is_lost(&world, id).await;
    app.stop().await;
}
