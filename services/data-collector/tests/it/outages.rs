//! Servers that are away, at start and in the middle.

use std::time::Duration;

use pg::Database;
use runtime::ServiceRuntime;
use serde_json::json;
use testkit::Proxy;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{
    HealthCheckRequest,
    health_check_response::ServingStatus::{self, NotServing, Serving},
    health_client::HealthClient,
};
use uuid::Uuid;

use crate::support::{App, PARIS, TestEnv, wait_for};

async fn env() -> TestEnv {
    let env = TestEnv::at_speed(60).await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    env
}

/// What Ada asks for.
fn interest(airport: &str) -> serde_json::Value {
    json!({"email": "ada@example.org", "airport_code": airport, "metric": "live", "high_value": 1})
}

/// What the health service says of the server, and of its service by name.
async fn health(app: &App) -> [ServingStatus; 2] {
    let at = tonic::transport::Endpoint::from_shared(format!("http://{}", app.running.grpc)).expect("an address");
    let mut health = HealthClient::new(at.connect_lazy());
    let mut says = [ServingStatus::Unknown; 2];
    for (says, service) in says.iter_mut().zip(["", "flightbell.v1.DataCollectorService"]) {
        let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await.expect("an answer");
        *says = answer.into_inner().status();
    }
    says
}

/// An environment whose service reaches PostgreSQL over a wire only.
async fn wired() -> (TestEnv, Proxy, Database) {
    let env = env().await;
    let wire = Proxy::to_postgres().await;
    let url = env.database.url_at(wire.addr());
    let database = Database::parse(&url.into()).expect("a database");
    (env, wire, database)
}

async fn start(env: &TestEnv, database: Database) -> App {
    env.start_with(|config| {
        config.database = database;
        config.collect_interval = Duration::from_secs(60);
    })
    .await
}

/// Every reading so far has reached the interest, in order, none twice with another id.
async fn nothing_is_lost(env: &TestEnv, interest: Uuid) {
    wait_for("the fan-out", async || (env.scalar("SELECT count(*) FROM fan_outs").await == 0).then_some(())).await;
    let last = env.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await;
    let sent = env
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
    let (env, wire, database) = wired().await;
    wire.cut();
    let mut config = env.config();
    config.database = database;
    let app = env.about_to_start(&mut config);
    let starting = data_collector::start(config, &app.runtime);
    let waiting = async {
        let is_named = async || app.part("postgres").await.filter(|(up, why)| !up && why.contains("cannot be reached"));
        wait_for("readiness to name it", is_named).await;
        // A caller who asks meanwhile is told to come again.
        for (method, path) in [("GET", "/flights/LFPG"), ("GET", "/readings/LFPG"), ("POST", "/interests")] {
            let answer = app.call(method, path, Some(interest("LFPG"))).await;
            let comes_again = answer.headers.contains_key("retry-after");
            assert_eq!((answer.status, comes_again), (503, true), "{method} {path}: {}", answer.body);
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {path}");
        }
        let told = app.delete_user("ada@example.org", Some(Uuid::now_v7())).await.expect_err("no database");
        assert_eq!(told.code(), tonic::Code::Unavailable);
        assert_eq!(health(&app).await, [NotServing; 2], "nothing can be served yet");
        let rest = [("/flights/XXXX", 400), ("/ping", 200), ("/livez", 200), ("/readyz", 503)];
        for (path, status) in rest {
            assert_eq!(app.get(path).await.status, status, "{path}");
        }
        wire.heal();
    };
    let (started, ()) = tokio::join!(starting, waiting);
    started.expect("it starts");
    assert_eq!(app.post(interest("LFPG")).await.status, 201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_server_can_be_stopped() {
    let (env, wire, database) = wired().await;
    wire.cut();
    let runtime = ServiceRuntime::new("data-collector", CancellationToken::new(), env.clock);
    let mut config = env.config();
    config.database = database;
    let starting = data_collector::start(config, &runtime);
    let (ended, ()) = tokio::join!(starting, async { runtime.tasks.stopping().cancel() });
    assert!(ended.expect_err("stopped").is::<runtime::StoppedEarly>());
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_that_is_away_at_start_is_waited_for() {
    let env = env().await;
    let wire = Proxy::to(env.kafka.parse().expect("an address")).await;
    wire.cut();
    let mut config = env.config();
    config.kafka.bootstrap = wire.addr().to_string();
    let app = env.about_to_start(&mut config);
    let starting = data_collector::start(config, &app.runtime);
    let waiting = async {
        let report = async || app.runtime.readiness.report().await.parts.into_iter();
        let is_named = async || report().await.any(|part| part.name.starts_with("kafka") && !part.up).then_some(());
        wait_for("readiness to name it", is_named).await;
        // What needs PostgreSQL alone is answered all the same.
        wait_for("the database", async || (app.get("/flights/LFPG").await.status == 200).then_some(())).await;
        assert_eq!(app.post(interest("LFPG")).await.status, 201);
        let nobody = app.delete_user("eve@example.org", Some(Uuid::now_v7())).await;
        assert_eq!((nobody.expect("answered"), app.get("/readyz").await.status), (0, 200));
        wire.heal();
    };
    let (started, ()) = tokio::join!(starting, waiting);
    started.expect("it starts");
    app.wait_reading("LFPG", "live", |_| true).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_manager_is_named_when_it_is_down_and_does_not_decide() {
    let env = TestEnv::new().await;
    let wire = testkit::Proxy::to(env.people.addr).await;
    let at = tonic::transport::Endpoint::from_shared(format!("http://{}", wire.addr())).expect("an address");
    let app = env.start_with(|config| config.user_manager = at).await;
    wait_for("it to be up", async || app.part("user-manager").await.filter(|(up, _)| *up)).await;
    wire.cut();
    let (_, why) = wait_for("it to be named", async || app.part("user-manager").await.filter(|(up, _)| !up)).await;
    assert!(!why.is_empty() && app.is_ready().await, "{why}");
    wire.heal();
    wait_for("it to be up again", async || app.part("user-manager").await.filter(|(up, _)| *up)).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_service_knows_the_service_by_its_name() {
    let env = TestEnv::new().await;
    let app = env.start().await;
    assert_eq!(health(&app).await, [Serving; 2]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_cut_off_for_five_seconds_loses_nothing() {
    let (env, wire, database) = wired().await;
    let app = start(&env, database).await;
    let id = app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() >= Some(2)).await;
    wire.cut();
    let body = interest("EGLL");
    let refused = app.post(body.clone()).await;
    assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true), "{}", refused.body);
    assert!(!app.is_ready().await);
    tokio::time::sleep(Duration::from_secs(5)).await; // The length of the cut, not a wait.
    wire.heal();
    wait_for("the service to be ready", async || app.is_ready().await.then_some(())).await;
    wait_for("the interest", async || (app.post(body.clone()).await.status == 201).then_some(())).await;
    app.wait_reading("EGLL", "live", |_| true).await;
    let before = env.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() > Some(before)).await;
    nothing_is_lost(&env, id).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_frozen_for_twenty_seconds_loses_nothing() {
    let (env, wire, database) = wired().await;
    let app = start(&env, database).await;
    let id = app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() >= Some(2)).await;
    wire.freeze();
    let frozen_at = std::time::Instant::now();
    assert_eq!(app.get("/readings/LFPG").await.status, 503);
    assert!(!app.is_ready().await);
    tokio::time::sleep(Duration::from_secs(20).saturating_sub(frozen_at.elapsed())).await; // The length of the freeze.
    wire.heal();
    wait_for("the service to be ready", async || app.is_ready().await.then_some(())).await;
    let before = env.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() > Some(before)).await;
    nothing_is_lost(&env, id).await;
    app.stop().await;
}

/// A service on this Kafka that has collected twice, and the interest it did it for.
async fn collecting_on(env: &TestEnv) -> (App, Uuid) {
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(60)).await;
    let id = app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() >= Some(2)).await;
    (app, id)
}

/// Collection goes on while Kafka is away, and an interest is accepted.
async fn goes_on_without_kafka(env: &TestEnv, app: &App) {
    let before = env.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await;
    assert_eq!(app.post(interest("EGLL")).await.status, 201);
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() > Some(before)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_frozen_for_twenty_seconds_loses_nothing() {
    let kafka = testkit::lone_kafka().await;
    let mut env = env().await;
    env.kafka.clone_from(&kafka.bootstrap);
    let (app, id) = collecting_on(&env).await;
    let frozen = kafka.freeze();
    let frozen_at = std::time::Instant::now();
    goes_on_without_kafka(&env, &app).await;
    tokio::time::sleep(Duration::from_secs(20).saturating_sub(frozen_at.elapsed())).await; // The length of the freeze.
    drop(frozen);
    nothing_is_lost(&env, id).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_killed_and_started_again_loses_nothing() {
    let kafka = testkit::lone_kafka().await;
    let mut env = env().await;
    env.kafka.clone_from(&kafka.bootstrap);
    let (app, id) = collecting_on(&env).await;
    let watch = kafka.watch();
    let pid = watch.pid().expect("a broker");
    let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill");
    assert!(killed.success());
    goes_on_without_kafka(&env, &app).await;
    watch.restarted_from(pid).await.expect("it comes back");
    nothing_is_lost(&env, id).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_cut_off_for_five_seconds_loses_nothing() {
    let wire = Proxy::unconnected().await;
    let kafka = testkit::kafka_behind(wire.addr().port()).await;
    wire.lead_to(kafka.behind_proxy().expect("a second listener"));
    let mut env = env().await;
    env.kafka = wire.addr().to_string();
    let (app, id) = collecting_on(&env).await;
    wire.cut();
    let cut_at = std::time::Instant::now();
    goes_on_without_kafka(&env, &app).await;
    tokio::time::sleep(Duration::from_secs(5).saturating_sub(cut_at.elapsed())).await; // The length of the cut.
    wire.heal();
    nothing_is_lost(&env, id).await;
    app.stop().await;
}
