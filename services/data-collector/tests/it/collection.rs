//! What is asked of OpenSky, when, and what the answers become.

use std::time::Duration;

use serde_json::json;
use simulators::opensky::{Auth, Bucket, Caller, Direction, Endpoint, Failure, Flight, State};

use crate::support::{App, PARIS, TestEnv, at, wait_for};

const ORLY: (f64, f64) = (48.7233, 2.3794);

#[tokio::test(flavor = "multi_thread")]
async fn an_airport_is_asked_once_however_many_watch_it() {
    let env = TestEnv::at_speed(600).await;
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    let app = env.start().await;
    for person in 0..5 {
        let email = format!("user{person}@example.org");
        env.person(&email);
        app.watch(&email, "LFPG", "live", Some(1), None).await;
    }
    wait_for("three cycles", async || (app.readings("LFPG", "live").await.len() >= 3).then_some(())).await;
    let readings = i64::try_from(app.readings("LFPG", "live").await.len()).expect("a count");
    let asked = i64::try_from(env.opensky.requests_to(Endpoint::States).len()).expect("a count");
    assert!(asked <= readings + 1, "{asked} questions for {readings} readings");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_share_one_call_and_requests_for_one_airport_are_joined() {
    let env = TestEnv::at_speed(60).await;
    for person in ["ada", "bob", "eve"] {
        env.person(&format!("{person}@example.org"));
    }
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 4);
    env.scripted.set_aircraft("b", ORLY.0, ORLY.1, 2);
    // Interests that came while no replica could collect: all of them wait.
    let day = env.yesterday();
    env.scripted.set_flight_count("KSFO", Direction::Arrival, day, 5);
    env.scripted.set_flight_count("KSFO", Direction::Departure, day, 6);
    env.opensky.fail_always(Endpoint::States, simulators::opensky::Failure::HangUp);
    let change = |config: &mut data_collector::Config| {
        config.collect_interval = Duration::from_secs(60);
        // So many failures may open the breaker, which is to be no matter here.
        config.open_sky.open_for = Duration::from_millis(200);
    };
    let app = env.start_with(change).await;
    for person in ["ada", "bob", "eve"] {
        let email = format!("{person}@example.org");
        app.watch(&email, "LFPG", "live", Some(1), None).await;
        app.watch(&email, "LFPO", "live", Some(1), None).await;
        app.watch(&email, "KSFO", "flights", Some(1), None).await;
    }
    env.opensky.recover(Endpoint::States);
    app.wait_reading("LFPG", "live", |reading| !reading["value"].is_null()).await;
    wait_for("a shared call", async || {
        let asked = env.opensky.requests_to(Endpoint::States);
        let wide = |request: &simulators::opensky::Request| {
            let edge = |name| request.param(name).expect("an edge").parse::<f64>().expect("degrees");
            edge("lamin") < 48.31 && edge("lamax") > 49.42
        };
        asked.iter().any(wide).then_some(())
    })
    .await;
    app.wait_reading("KSFO", "flights", |reading| reading["value"] == 11).await;
    let asked = env.requests("KSFO").await;
    assert_eq!(asked.len(), 2, "one call a direction for three people: {asked:?}");
    assert!(asked.iter().all(|request| request.auth == Auth::Token));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_directions_that_are_watched_are_asked() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let day = env.yesterday();
    env.scripted.set_flight_count("KSFO", Direction::Arrival, day, 5);
    env.scripted.set_flight_count("KSFO", Direction::Departure, day, 6);
    let app = env.start().await;
    app.watch("ada@example.org", "KSFO", "arrivals", Some(4), None).await;
    let reading = app.wait_reading("KSFO", "arrivals", |_| true).await;
    assert_eq!(reading["value"], 5);
    assert_eq!(
        (&reading["window_begin"], &reading["window_end"]),
        (&json!("2026-11-19T00:00:00Z"), &json!("2026-11-19T23:59:59Z"))
    );
    assert!(env.opensky.requests_to(Endpoint::Departures).is_empty());
    // A second metric needs the other direction only.
    app.watch("ada@example.org", "KSFO", "flights", Some(4), None).await;
    assert_eq!(app.wait_reading("KSFO", "flights", |_| true).await["value"], 11);
    assert_eq!(env.opensky.requests_to(Endpoint::Arrivals).len(), 1);
    // And a third that can be told from what is held costs nothing.
    app.watch("ada@example.org", "KSFO", "departures", Some(4), None).await;
    assert_eq!(app.wait_reading("KSFO", "departures", |_| true).await["value"], 6);
    assert_eq!(env.requests("KSFO").await.len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_while_its_airport_is_collected_is_collected_right_after() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let day = env.yesterday();
    env.scripted.set_flight_count("KSFO", Direction::Arrival, day, 5);
    env.scripted.set_flight_count("KSFO", Direction::Departure, day, 6);
    env.opensky.fail(Endpoint::Arrivals, Failure::Hang(Duration::from_secs(4)));
    let app = env.start().await;
    app.watch("ada@example.org", "KSFO", "arrivals", Some(4), None).await;
    wait_for("the question", async || (!env.opensky.requests_to(Endpoint::Arrivals).is_empty()).then_some(())).await;
    app.watch("ada@example.org", "KSFO", "departures", Some(4), None).await;
    wait_for("the request", async || {
        let waiting = "SELECT count(*) FROM collection_requests WHERE metric = 'departures'";
        (env.scalar(waiting).await == 1).then_some(())
    })
    .await;
    assert!(app.readings("KSFO", "arrivals").await.is_empty(), "the answer is still to come");
    assert_eq!(app.wait_reading("KSFO", "departures", |_| true).await["value"], 6);
    assert_eq!(app.readings("KSFO", "arrivals").await[0]["value"], 5);
    assert_eq!(env.requests("KSFO").await.len(), 2);
    wait_for("nobody to wait", async || {
        (env.scalar("SELECT count(*) FROM collection_requests").await == 0).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_that_returns_counts_once_and_is_stored_once() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let day = env.yesterday();
    let noon = day.and_hms_opt(12, 0, 0).expect("noon").and_utc().timestamp();
    let mut round = Flight::new("391cd9", noon, noon + 600).from("LFPG").to("LFPG").callsign("FGSAT");
    round.est_departure_airport_horiz_distance = Some(7934);
    round.est_departure_airport_vert_distance = Some(-12);
    // No distance is as long, and none is as many candidates.
    round.est_arrival_airport_horiz_distance = Some(1 << 40);
    round.arrival_airport_candidates_count = -1;
    let away = Flight::new("391cda", noon, noon + 3600).from("LFPG").to("EGLL").callsign("AFR1");
    env.scripted.set_flights("LFPG", Direction::Arrival, day, vec![round.clone()]);
    env.scripted.set_flights("LFPG", Direction::Departure, day, vec![round, away.clone()]);
    env.scripted.set_flights("EGLL", Direction::Arrival, day, vec![away]);
    let app = env.start().await;
    app.watch("ada@example.org", "LFPG", "flights", Some(1), None).await;
    assert_eq!(app.wait_reading("LFPG", "flights", |_| true).await["value"], 2);
    app.watch("ada@example.org", "EGLL", "arrivals", Some(1), None).await;
    assert_eq!(app.wait_reading("EGLL", "arrivals", |_| true).await["value"], 1);
    assert_eq!(env.scalar("SELECT count(*) FROM flights").await, 2);
    let all = app.get("/flights/lfpg").await.body;
    assert_eq!(all.as_array().expect("a list").len(), 2);
    assert_eq!((&all[0]["icao24"], &all[0]["callsign"]), (&json!("391cd9"), &json!("FGSAT")), "newest first: {all}");
    let details = |name: &str| all[0][name].clone();
    assert_eq!(details("departure_airport_horiz_distance"), 7934);
    assert_eq!(details("departure_airport_vert_distance"), -12);
    assert_eq!(details("departure_airport_candidates_count"), 1);
    assert_eq!(details("arrival_airport_vert_distance"), 0);
    assert_eq!(details("arrival_airport_horiz_distance"), json!(null));
    assert_eq!(details("arrival_airport_candidates_count"), json!(null));
    assert!(all[1].as_object().expect("a flight").contains_key("arrival_airport_horiz_distance"));
    assert_eq!(app.get("/flights/CDG?type=arrivals").await.body.as_array().expect("a list").len(), 1);
    assert_eq!(app.get("/flights/LFPG?type=departures").await.body.as_array().expect("a list").len(), 2);
    assert_eq!(app.get("/flights/LFPG?type=both").await.status, 400);
    let average = app.get("/flights/average/LFPG").await.body;
    assert_eq!(average, json!({"airport": "LFPG", "average_flights_per_day": 2.0, "days": 1, "flights": 2}));
    assert_eq!(app.get("/flights/last/LFPG").await.body["icao24"], "391cd9");
    assert_eq!((app.get("/flights/average/KJFK").await.status, app.get("/flights/last/KJFK").await.status), (404, 404));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged() {
    let env = TestEnv::at_speed(600).await;
    env.person("ada@example.org");
    env.scripted.set_flight_count("KSFO", Direction::Arrival, env.yesterday(), 25);
    let app = env.start().await;
    app.watch("ada@example.org", "KSFO", "arrivals", Some(4), None).await;
    app.watch("ada@example.org", "KSFO", "live", Some(4), None).await;
    app.wait_reading("KSFO", "arrivals", |_| true).await;
    wait_for("five readings", async || (app.readings("KSFO", "live").await.len() >= 5).then_some(())).await;
    for (path, key, least) in
        [("/flights/KSFO?limit=10", "icao24", 25), ("/readings/KSFO?metric=live&limit=2", "seq", 5)]
    {
        let (mut next, mut seen) = (path.to_owned(), Vec::new());
        loop {
            let page = app.get(&format!("/data-collector{next}")).await;
            assert_eq!(page.status, 200, "{next}");
            seen.extend(page.body.as_array().expect("a list").iter().map(|item| item[key].to_string()));
            let Some(link) = page.headers.get("link") else { break };
            let link = link.to_str().expect("text");
            let target = link.split(['<', '>']).nth(1).expect("a target");
            next = format!("{}{target}", &path[..=path.rfind('/').expect("a slash")]);
        }
        let different: std::collections::BTreeSet<_> = seen.iter().collect();
        assert!(seen.len() >= least && different.len() == seen.len(), "{path}: {seen:?}");
    }
    for wrong in [
        "/flights/KSFO?cursor=x",
        "/flights/KSFO?cursor=-9999999999_abc_-999999999999",
        "/readings/KSFO?cursor=1_2",
        "/readings/KSFO?metric=moon",
        "/flights/KSFO?limit=0",
    ] {
        assert_eq!(app.get(wrong).await.status, 422, "{wrong}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_not_published_is_unknown_and_one_that_is_may_be_zero() {
    // The clock runs ten minutes a second: a probe is due every few minutes of it.
    let env = TestEnv::at_speed(600).await;
    env.person("ada@example.org");
    let (yesterday, before) = (env.yesterday(), env.yesterday().pred_opt().expect("a day"));
    env.scripted.set_flight_count("KSFO", Direction::Arrival, before, 9);
    let app = env.start().await;
    // Nothing at all is known yet: Catania has no flights on either day.
    app.watch("ada@example.org", "LICC", "arrivals", None, Some(3)).await;
    assert!(app.wait_reading("LICC", "arrivals", |_| true).await["value"].is_null());
    // The day before yesterday turns out to be published.
    app.watch("ada@example.org", "KSFO", "arrivals", Some(3), None).await;
    let reading = app.wait_reading("KSFO", "arrivals", |reading| !reading["value"].is_null()).await;
    assert_eq!((&reading["value"], &reading["window_begin"]), (&json!(9), &json!("2026-11-18T00:00:00Z")));
    // From then on nothing there is zero, for that day.
    let zero = app.wait_reading("LICC", "arrivals", |reading| !reading["value"].is_null()).await;
    assert_eq!((&zero["value"], &zero["window_begin"]), (&json!(0), &json!("2026-11-18T00:00:00Z")));
    // Yesterday is published: a probe finds out, and both airports are collected.
    env.scripted.set_flight_count("KSFO", Direction::Arrival, yesterday, 12);
    let newer = |reading: &serde_json::Value| reading["window_begin"] == "2026-11-19T00:00:00Z";
    assert_eq!(app.wait_reading("KSFO", "arrivals", newer).await["value"], 12);
    assert_eq!(app.wait_reading("LICC", "arrivals", newer).await["value"], 0);
    let oldest = at("2026-11-18T00:00:00Z").timestamp();
    let begins =
        |request: &simulators::opensky::Request| request.param("begin").and_then(|begin| begin.parse::<i64>().ok());
    assert!(env.opensky.requests().iter().filter_map(begins).all(|begin| begin >= oldest), "never further back");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_that_speaks_of_missing_receivers_is_warned_about() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.person("bob@example.org");
    let day = env.yesterday();
    env.scripted.set_flight_count("KSFO", Direction::Arrival, day, 40);
    let app = env.start().await;
    app.watch("ada@example.org", "KSFO", "arrivals", Some(3), None).await;
    app.wait_reading("KSFO", "arrivals", |_| true).await;
    // Catania is known for it before anything was collected there.
    let early = json!({"email": "ada@example.org", "airport_code": "CTA", "metric": "live", "low_value": 3});
    assert!(app.post(early).await.body["warning"].is_string());
    app.watch("ada@example.org", "LICC", "arrivals", Some(3), None).await;
    app.wait_reading("LICC", "arrivals", |reading| reading["value"] == 0).await;
    let body =
        |airport| json!({"email": "bob@example.org", "airport_code": airport, "metric": "arrivals", "low_value": 3});
    let warned = app.post(body("LICC")).await;
    assert_eq!(warned.status, 201);
    assert!(warned.body["warning"].as_str().is_some_and(|warning| warning.contains("LICC")), "{}", warned.body);
    assert!(app.post(body("KSFO")).await.body.get("warning").is_none());
    assert!(app.put(body("LICC")).await.body["warning"].is_string());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_or_nowhere_is_not_counted_whatever_the_columns() {
    for columns in [17, 18] {
        let env = TestEnv::new().await;
        env.person("ada@example.org");
        env.opensky.set_columns(Some(columns));
        let now = env.clock.now().timestamp();
        let (latitude, longitude) = PARIS;
        env.scripted.set_states(vec![
            State::new("000001", latitude, longitude, now),
            State::new("000002", latitude, longitude, now - 300),
        ]);
        let app = env.start().await;
        app.watch("ada@example.org", "LFPG", "live", Some(3), None).await;
        assert_eq!(app.wait_reading("LFPG", "live", |_| true).await["value"], 1);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_sky_is_zero() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let app = env.start().await;
    app.watch("ada@example.org", "LFPG", "live", None, Some(3)).await;
    assert_eq!(app.wait_reading("LFPG", "live", |_| true).await["value"], 0);
    for line in [
        "flights_fetched_last_collection{airport_code=\"LFPG\"} 0",
        "opensky_credits_remaining{bucket=\"states\"} 3999",
        // Midnight.
        "opensky_credits_last_until_timestamp_seconds{bucket=\"states\"} 1795219200",
    ] {
        wait_for(line, async || app.metrics().contains(line).then_some(())).await;
    }
    // An airport that no interest names any more loses its label.
    app.delete(json!({"email": "ada@example.org", "airport_code": "LFPG", "metric": "live"})).await;
    wait_for("the label to go", async || (!app.metrics().contains("LFPG")).then_some(())).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credits_an_interest_is_accepted_and_says_until_when_it_waits() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.opensky.set_credits(Bucket::States, Caller::SignedIn, 1);
    let app = env.start().await;
    app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |_| true).await;
    app.watch("ada@example.org", "KJFK", "live", Some(1), None).await;
    wait_for("the plan", async || {
        let interest = app.interest("ada@example.org", "KJFK", "live").await;
        (interest["next_collection_at"] == "2026-11-21T00:00:00Z").then_some(())
    })
    .await;
    assert_eq!(env.opensky.requests_to(Endpoint::States).len(), 1, "the header was believed");
    assert!(app.is_ready().await);
    let (up, detail) = app.part("opensky credits").await.expect("a part");
    assert!(!up && detail.contains("states: 0 credits, not enough until midnight UTC"), "{detail}");
    app.stop().await;
    // A restart does not forget.
    let app = env.start().await;
    wait_for("the plan", async || app.part("opensky credits").await.filter(|(_, detail)| detail.contains("states: 0")))
        .await;
    assert_eq!(env.opensky.requests_to(Endpoint::States).len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_access_has_the_smaller_budget_and_no_token() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.opensky.hide_credit_headers(true);
    let app = env.start_with(|config| config.open_sky.credentials = None).await;
    app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |_| true).await;
    wait_for("the plan", async || app.metrics().contains("{bucket=\"states\"} 399").then_some(())).await;
    assert!(env.opensky.requests_to(Endpoint::Token).is_empty());
    assert_eq!(env.opensky.requests_to(Endpoint::States)[0].auth, Auth::None);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_are_stored_are_counted_by_metric_and_by_whether_they_are_known() {
    let env = TestEnv::at_speed(60).await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    env.scripted.set_flight_count("KSFO", Direction::Arrival, env.yesterday(), 5);
    for endpoint in [Endpoint::States, Endpoint::Arrivals] {
        env.opensky.fail(endpoint, Failure::Status(500));
    }
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(60)).await;
    app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.watch("ada@example.org", "KSFO", "arrivals", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 3).await;
    app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 5).await;
    let registry = app.runtime.registry.clone();
    app.stop().await;
    let text = runtime::metrics::render([&registry].into_iter()).expect("metrics");
    let stored: Vec<(String, bool, i64)> =
        sqlx::query_as("SELECT metric, value IS NOT NULL, count(*) FROM readings GROUP BY 1, 2")
            .fetch_all(&env.database.pool)
            .await
            .expect("counts");
    assert_eq!(stored.len(), 4, "known and unknown ones of both: {stored:?}");
    for (metric, is_known, count) in stored {
        let value = if is_known { "known" } else { "unknown" };
        let line = format!("readings_total{{metric=\"{metric}\",value=\"{value}\"}} {count}\n");
        assert!(text.contains(&line), "{line} is missing: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_collects_and_another_takes_over() {
    let env = TestEnv::at_speed(60).await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    let short = |config: &mut data_collector::Config| config.collect_interval = Duration::from_secs(60);
    let first = env.start_with(short).await;
    first.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    first.wait_reading("LFPG", "live", |_| true).await;
    let second = env.start_with(short).await;
    // A request that reaches the other replica is collected all the same.
    second.watch("ada@example.org", "LFPO", "live", Some(1), None).await;
    second.wait_reading("LFPO", "live", |_| true).await;
    let says = async |app: &App| app.part("opensky credits").await.expect("a part");
    assert_eq!(says(&second).await, (true, "this replica does not collect".to_owned()), "only one plans");
    let leads = |app: &App| app.metrics().contains("\ncollection_leader 1\n");
    assert!(leads(&first) && second.metrics().contains("\ncollection_leader 0\n"), "{}", second.metrics());
    let (up, said) = says(&first).await;
    assert!(up && said.contains("states: "), "{said}");
    assert_eq!(
        env.scalar("SELECT epoch FROM leases WHERE name = 'data-collector-collection'").await,
        1,
        "the first has led all the time"
    );
    let stopped = first.runtime.registry.clone();
    first.stop().await;
    let stopped = runtime::metrics::render([&stopped].into_iter()).expect("metrics");
    assert!(stopped.contains("\ncollection_leader 0\n"), "{stopped}");
    let before = env.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await;
    wait_for("the second to collect", async || {
        let now = env.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await;
        (now > before).then_some(())
    })
    .await;
    let (up, said) = says(&second).await;
    assert!(up && said.contains("states: "), "{said}");
    assert!(leads(&second), "{}", second.metrics());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collecting_a_day_again_corrects_it_and_repeats_nothing() {
    let env = TestEnv::at_speed(600).await;
    env.person("ada@example.org");
    let day = env.yesterday();
    env.scripted.set_flight_count("KSFO", Direction::Arrival, day, 5);
    let app = env.start().await;
    app.watch("ada@example.org", "KSFO", "arrivals", Some(4), None).await;
    app.wait_reading("KSFO", "arrivals", |reading| reading["seq"] == 2).await;
    assert_eq!(env.scalar("SELECT count(*) FROM flights").await, 5);
    assert_eq!(env.scalar("SELECT count(*) FROM airport_flights").await, 5);
    env.scripted.set_flight_count("KSFO", Direction::Arrival, day, 4);
    app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 4).await;
    assert_eq!(env.scalar("SELECT count(*) FROM airport_flights").await, 4);
    app.stop().await;
}
