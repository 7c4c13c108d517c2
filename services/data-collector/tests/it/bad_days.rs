//! OpenSky's bad days: whatever it answers, a value is never made up, and what works goes on.

use std::time::{Duration, Instant};

use data_collector::Config;
use serde_json::{Value, json};
use simulators::opensky::{Direction, Endpoint, Failure};
use testkit::CapturedLog;

use crate::support::{App, PARIS, TestEnv, wait_for};

/// An environment with one airport for each kind of figure, in which ten minutes pass in a second.
async fn env() -> TestEnv {
    let env = TestEnv::at_speed(600).await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    env.scripted.set_flight_count("KSFO", Direction::Arrival, env.yesterday(), 5);
    env
}

fn impatient(config: &mut Config) {
    config.open_sky.time_limit = Duration::from_millis(700);
}

async fn watch_live(app: &App) {
    app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
}

async fn watch_daily(app: &App) {
    app.watch("ada@example.org", "KSFO", "arrivals", Some(1), None).await;
}

fn is_unknown(reading: &Value) -> bool {
    reading["value"].is_null()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_an_unknown_reading_and_the_next_cycle_has_the_value() {
    let failures = [
        ("500", Failure::Status(500)),
        ("502", Failure::Status(502)),
        ("503", Failure::Status(503)),
        ("400", Failure::Status(400)),
        ("unreadable", Failure::Html),
        ("unreadable", Failure::HalfBody),
        ("unreachable", Failure::HangUp),
        ("timeout", Failure::Hang(Duration::from_secs(20))),
        ("unreadable", Failure::body("[\"Internal error\"]")),
        ("unreadable", Failure::body("")),
        ("unreadable", Failure::body("{\"time\":1}")),
        ("unreadable", Failure::body("{\"time\":1700000000,\"States\":[]}")),
    ];
    for (label, failure) in failures {
        let env = env().await;
        let what = format!("{failure:?}");
        env.opensky.fail(Endpoint::States, failure.clone());
        env.opensky.fail(Endpoint::Arrivals, failure);
        let app = env.start_with(impatient).await;
        watch_live(&app).await;
        watch_daily(&app).await;
        for (airport, metric, value) in [("LFPG", "live", 3), ("KSFO", "arrivals", 5)] {
            app.wait_reading(airport, metric, |reading| reading["value"] == value).await;
            let first = app.wait_reading(airport, metric, |reading| reading["seq"] == 1).await;
            assert!(is_unknown(&first), "{what}: {first}");
        }
        let metrics = app.metrics();
        assert!(metrics.contains(&format!("opensky_api_calls_total{{status=\"{label}\"}} 2")), "{what}: {metrics}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_malformed_flight_spoils_the_whole_answer_and_nothing_of_it_is_stored() {
    let good = r#"{"icao24":"391cd9","firstSeen":1795046400,"estDepartureAirport":null,"lastSeen":1795050000,"estArrivalAirport":"KSFO","callsign":null}"#;
    for bad in [
        good.replace("estArrivalAirport", "EstArrivalAirport"),
        good.replace("\"estDepartureAirport\":null,", ""),
        good.replace("391cd9", ""),
        good.replace("1795050000", "null"),
    ] {
        let env = env().await;
        env.opensky.fail(Endpoint::Arrivals, Failure::body(format!("[{good},{bad}]")));
        let app = env.start().await;
        watch_daily(&app).await;
        let first = app.wait_reading("KSFO", "arrivals", |reading| reading["seq"] == 1).await;
        assert!(is_unknown(&first), "{bad}: {first}");
        app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 5).await;
        assert_eq!(env.scalar("SELECT count(*) FROM flights").await, 5);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_costs_nothing_but_a_second_call() {
    let env = env().await;
    let app = env.start().await;
    watch_daily(&app).await;
    app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 5).await;
    env.opensky.expire_tokens();
    watch_live(&app).await;
    let first = app.wait_reading("LFPG", "live", |reading| reading["seq"] == 1).await;
    assert_eq!(first["value"], 3);
    let statuses: Vec<u16> =
        env.opensky.requests_to(Endpoint::States).iter().take(2).map(|asked| asked.status).collect();
    assert_eq!(statuses, [401, 200]);
    assert_eq!(env.opensky.requests_to(Endpoint::Token).len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn being_refused_always_opens_the_breaker_and_never_asks_more_than_twice_a_cycle() {
    let env = env().await;
    env.opensky.fail_always(Endpoint::States, Failure::Status(401));
    let app = env.start().await;
    watch_live(&app).await;
    wait_for("the breaker to open", async || {
        app.metrics().contains("opensky_breaker_state{breaker=\"states\"} 2").then_some(())
    })
    .await;
    assert_eq!(env.opensky.requests_to(Endpoint::States).len(), 10, "five failures of two questions each");
    assert!(app.readings("LFPG", "live").await.iter().all(is_unknown));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_sign_in_opens_its_own_breaker_and_asks_for_nothing() {
    let env = env().await;
    env.opensky.fail_always(Endpoint::Token, Failure::Status(401));
    let app = env.start_with(|config| config.open_sky.open_for = Duration::from_secs(2)).await;
    watch_live(&app).await;
    let open = "opensky_breaker_state{breaker=\"sign-in\"} 2";
    wait_for("the breaker to open", async || app.metrics().contains(open).then_some(())).await;
    assert!(env.opensky.requests_to(Endpoint::States).is_empty());
    assert!(app.readings("LFPG", "live").await.iter().all(is_unknown));
    // It is tried again later, and closes.
    env.opensky.recover(Endpoint::Token);
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 3).await;
    assert!(app.metrics().contains("opensky_breaker_state{breaker=\"sign-in\"} 0"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_us_elsewhere_does_not_make_us_tell_our_secret_there() {
    let env = env().await;
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/token", elsewhere.local_addr().expect("an address"));
    env.opensky.fail_always(Endpoint::Token, Failure::SentElsewhere(address));
    let app = env.start().await;
    watch_live(&app).await;
    let asked = tokio::select! {
        _ = elsewhere.accept() => true,
        reading = app.wait_reading("LFPG", "live", |reading| reading["seq"] == 1) => {
            assert!(is_unknown(&reading));
            false
        }
    };
    assert!(!asked);
    env.opensky.recover(Endpoint::Token);
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 3).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_failures_in_a_row_open_a_breaker_and_the_other_figures_go_on() {
    let env = env().await;
    env.opensky.fail_always(Endpoint::States, Failure::Status(503));
    let app = env.start_with(|config| config.open_sky.open_for = Duration::from_secs(2)).await;
    watch_live(&app).await;
    let open = "opensky_breaker_state{breaker=\"states\"} 2";
    wait_for("the breaker to open", async || app.metrics().contains(open).then_some(())).await;
    assert_eq!(env.opensky.requests_to(Endpoint::States).len(), 5);
    watch_daily(&app).await;
    assert_eq!(app.wait_reading("KSFO", "arrivals", |reading| reading["seq"] == 1).await["value"], 5);
    env.opensky.recover(Endpoint::States);
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 3).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_hours_of_silence_are_kept_over_a_restart_and_stop_nothing_else() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.scripted.set_flight_count("KSFO", Direction::Arrival, env.yesterday(), 5);
    env.opensky.fail(Endpoint::States, Failure::ten_hours());
    let app = env.start().await;
    watch_live(&app).await;
    assert!(is_unknown(&app.wait_reading("LFPG", "live", |_| true).await));
    watch_daily(&app).await;
    assert_eq!(app.wait_reading("KSFO", "arrivals", |_| true).await["value"], 5);
    let waits = async |app: &App| {
        wait_for("the plan", async || {
            let interest = app.interest("ada@example.org", "LFPG", "live").await;
            interest["next_collection_at"].as_str().is_some_and(|at| at.starts_with("2026-11-20T20:45")).then_some(())
        })
        .await;
    };
    waits(&app).await;
    assert!(app.metrics().contains("opensky_breaker_state{breaker=\"states\"} 0"), "429 opens nothing");
    app.stop().await;
    let app = env.start().await;
    let part = async || app.part("opensky credits").await.filter(|(_, detail)| detail.contains("silent until"));
    let (up, detail) = wait_for("the plan", part).await;
    assert!(!up && detail.contains("20 Nov 20:45 UTC"), "{detail}");
    waits(&app).await;
    assert_eq!(env.opensky.requests_to(Endpoint::States).len(), 1);
    assert!(app.is_ready().await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_and_whoever_waited_is_served() {
    // An hour passes in a second: 429 without a header is an hour.
    let env = TestEnv::at_speed(3600).await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    env.opensky.fail(Endpoint::States, Failure::TooManyRequests { retry_after_seconds: None });
    let app = env.start().await;
    watch_live(&app).await;
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 3).await;
    let asked = env.opensky.requests_to(Endpoint::States);
    assert_eq!(asked[0].status, 429);
    assert!((asked[1].at - asked[0].at).num_minutes() >= 59, "{:?}", asked[1].at - asked[0].at);
    assert_eq!(env.scalar("SELECT count(*) FROM collection_requests").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_airport_s_failure_never_stops_the_others() {
    let env = env().await;
    env.scripted.set_flight_count("EGLL", Direction::Arrival, env.yesterday(), 8);
    env.opensky.fail(Endpoint::Arrivals, Failure::Status(500));
    let app = env.start().await;
    app.watch("ada@example.org", "LICC", "arrivals", Some(1), None).await;
    app.watch("ada@example.org", "EGLL", "arrivals", Some(1), None).await;
    watch_daily(&app).await;
    assert_eq!(app.wait_reading("EGLL", "arrivals", |reading| !is_unknown(reading)).await["value"], 8);
    assert_eq!(app.wait_reading("KSFO", "arrivals", |reading| !is_unknown(reading)).await["value"], 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_reading_reaches_kafka_as_null() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.opensky.fail(Endpoint::States, Failure::Html);
    let app = env.start().await;
    let id = app.watch("ada@example.org", "LFPG", "live", None, Some(4)).await;
    let sent = env.wait_sent(id, |sent| !sent.is_empty()).await;
    assert_eq!((&sent[0]["flight_count"], &sent[0]["low_value"]), (&json!(null), &json!(4)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opensky_that_says_nothing_is_waited_for_15_s_and_no_longer() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.opensky.fail_always(Endpoint::States, Failure::Hang(Duration::from_secs(60)));
    let app = env.start().await;
    let begun = Instant::now();
    watch_live(&app).await;
    let unknown = app.wait_reading("LFPG", "live", |_| true).await;
    let took = begun.elapsed();
    assert!(is_unknown(&unknown), "{unknown}");
    assert!((15..20).contains(&took.as_secs()), "{took:?}");
    assert!(app.metrics().contains("opensky_api_calls_total{status=\"timeout\"} 1"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_box_that_is_refused_leaves_each_airport_a_box_of_its_own() {
    let env = TestEnv::at_speed(60).await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(60)).await;
    // Both wait until the pause ends, and are asked for together.
    sqlx::query("INSERT INTO credits (bucket, day, remaining, from_header, paused_until) VALUES ('states', $1, 4000, false, $2)")
        .bind(env.clock.now().date_naive())
        .bind(env.clock.now() + chrono::TimeDelta::minutes(3))
        .execute(&env.database.pool)
        .await
        .expect("a pause");
    env.opensky.fail(Endpoint::States, Failure::Status(400));
    watch_live(&app).await;
    app.watch("ada@example.org", "LFPO", "live", Some(1), None).await;
    for airport in ["LFPG", "LFPO"] {
        let first = app.wait_reading(airport, "live", |reading| reading["seq"] == 1).await;
        assert_eq!(first["value"], 3, "{first}");
    }
    wait_for("the next cycle", async || (env.opensky.requests_to(Endpoint::States).len() >= 5).then_some(())).await;
    let statuses: Vec<u16> = env.opensky.requests_to(Endpoint::States).iter().map(|asked| asked.status).collect();
    assert_eq!(&statuses[..5], [400, 200, 200, 200, 200], "one for both, then one for each");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_asked_for_less_and_less_often() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    sqlx::raw_sql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON readings EXECUTE FUNCTION full_disk()",
    )
    .execute(&env.database.pool)
    .await
    .expect("a full disk");
    let app = env.start().await;
    watch_live(&app).await;
    let asked = wait_for("four questions", async || {
        let asked = env.opensky.requests_to(Endpoint::States);
        (asked.len() >= 4).then_some(asked)
    })
    .await;
    let waits: Vec<i64> = asked.windows(2).map(|pair| (pair[1].at - pair[0].at).num_milliseconds()).collect();
    assert!(waits[0] >= 1_000 && waits[1] >= 2_000 && waits[2] >= 4_000, "{waits:?}");
    sqlx::query("DROP TRIGGER full_disk ON readings").execute(&env.database.pool).await.expect("room");
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 0).await;
    app.stop().await;
}

#[tokio::test]
async fn an_open_breaker_is_logged_at_the_change_and_not_for_each_airport_and_cycle() {
    let (log, begun) = (CapturedLog::begin(), Instant::now());
    let env = env().await;
    env.opensky.fail_always(Endpoint::States, Failure::Status(500));
    let app = env.start().await;
    let airports = ["LFPG", "KSFO", "RJTT", "SBGR"];
    for airport in airports {
        app.watch("ada@example.org", airport, "live", Some(1), None).await;
    }
    let is_met = async || (!log.lines(&["WARN", "not asked"]).is_empty()).then_some(());
    wait_for("the breaker to open and to be met", is_met).await;
    // Some cycles more, with an unknown reading for each airport.
    let last = env.scalar("SELECT max(seq) FROM readings").await;
    for airport in airports {
        app.wait_reading(airport, "live", |reading| reading["seq"].as_i64() >= Some(last + 3)).await;
    }
    // The first failure, the breaker that opens, and the first question that is not asked. Then a line a minute, of each
    // of both failures, should the test take so long.
    let again = log.lines(&["WARN", "still unknown"]).len();
    assert!(again as u64 <= 2 * (begun.elapsed().as_secs() / 60), "{:#?}", log.lines(&["WARN"]));
    let lines = log.lines(&["WARN", "data_collector"]);
    let has = |words| lines.iter().any(|line| line.contains(words));
    let told = ["status 500", "calls failed, pausing", "not asked"].map(has);
    assert_eq!((told, lines.len() - again), ([true; 3], 3), "{lines:#?}");
    app.stop().await;
}
