//! Tokens, credits and questions, on traffic that a test makes up.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::opensky::{Auth, Bucket, Budget, Caller, Direction, Endpoint, Flight, Scripted, Source, State};

use crate::{OpenSkyClient, SOON, at};

const DAY: &str = "/flights/arrival?airport=KSFO&begin=1795132800&end=1795219199";

#[tokio::test]
async fn a_client_signs_in_and_is_refused_with_a_wrong_secret() {
    let (api, _) = OpenSkyClient::scripted().await;
    let answer = api.sign_in("simulator").await;
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!((&answer["expires_in"], &answer["token_type"]), (&json!(1800), &json!("Bearer")));
    let refused = api.sign_in("guess").await;
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.json::<Value>().await.expect("JSON")["error"], "invalid_client");
    let told: Vec<_> = api.opensky.requests_to(Endpoint::Token).iter().map(|request| request.status).collect();
    assert_eq!(told, [200, 401]);
}

#[tokio::test]
async fn a_token_is_valid_until_it_expires_and_others_never_are() {
    let (api, _) = OpenSkyClient::scripted().await;
    let token = api.token().await;
    assert_eq!(api.get_with("/states/all", &token).await.status(), 200);
    api.opensky.expire_tokens();
    assert_eq!(api.get_with("/states/all", &token).await.status(), 401);
    assert_eq!(api.get_with("/states/all", "made-up").await.status(), 401);
    let fresh = api.token().await;
    assert_eq!(api.get_with("/states/all", &fresh).await.status(), 200);
    let by: Vec<_> = api.opensky.requests_to(Endpoint::States).iter().map(|request| request.auth).collect();
    assert_eq!(by, [Auth::Token, Auth::WrongToken, Auth::WrongToken, Auth::Token]);

    let source = Source::Scripted(Scripted::new());
    let brief =
        OpenSkyClient::start_with(source, "2026-11-21T10:00:00Z", |options| options.token_lifetime = Duration::ZERO)
            .await;
    let token = brief.token().await;
    assert_eq!(brief.get_with("/states/all", &token).await.status(), 401);
}

#[tokio::test]
async fn a_name_and_a_password_count_as_nobody() {
    let (api, _) = OpenSkyClient::scripted().await;
    let url = format!("{}/states/all", api.opensky.api_url());
    let answer = api.client.get(url).basic_auth("flightbell", Some("simulator")).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-rate-limit-remaining"], "396");
    assert_eq!(api.opensky.requests()[0].auth, Auth::Basic);
}

#[tokio::test]
async fn credits_are_taken_by_bucket_and_caller_and_come_back_at_midnight() {
    let source = Source::Scripted(Scripted::new());
    let budget = Budget { signed_in: 60, anonymous: 4 };
    let api = OpenSkyClient::start_with(source, "2026-11-21T13:14:45Z", |options| options.budget = budget).await;
    let token = api.token().await;
    let small = "/states/all?lamin=1&lomin=1&lamax=2&lomax=2";
    let left =
        |response: &reqwest::Response| response.headers()["x-rate-limit-remaining"].to_str().expect("text").to_owned();

    assert_eq!(left(&api.get_with(small, &token).await), "59");
    // Nothing there costs too, and says what is left.
    let nothing = api.get_with(DAY, &token).await;
    assert_eq!((nothing.status().as_u16(), left(&nothing)), (404, "30".to_owned()));
    assert_eq!(left(&api.get_with(DAY, &token).await), "0");
    let refused = api.get_with(DAY, &token).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["x-rate-limit-retry-after-seconds"], "38715");
    assert!(serde_json::from_str::<Value>(&refused.text().await.expect("a text")).is_err());
    assert_eq!(left(&api.get_with(small, &token).await), "58");

    // Without a token there is less, and the globe costs all of it.
    assert_eq!(left(&api.get("/states/all").await), "0");
    assert_eq!(api.get(small).await.status(), 429);
    assert_eq!(api.opensky.credits(Bucket::States, Caller::Anonymous), 0);

    api.clock.set("2026-11-22T00:00:00Z");
    assert_eq!(left(&api.get_with(DAY, &token).await), "30");
}

#[tokio::test]
async fn credits_can_be_set_and_their_headers_hidden() {
    let (api, _) = OpenSkyClient::scripted().await;
    api.opensky.set_credits(Bucket::States, Caller::Anonymous, 9);
    assert_eq!(api.get("/states/all").await.headers()["x-rate-limit-remaining"], "5");
    api.opensky.hide_credit_headers(true);
    assert!(!api.get("/states/all").await.headers().contains_key("x-rate-limit-remaining"));
    let refused = api.get("/states/all").await;
    assert_eq!(refused.status(), 429);
    assert!(!refused.headers().contains_key("x-rate-limit-retry-after-seconds"));
}

#[tokio::test]
async fn flights_are_those_of_the_airport_the_direction_and_the_day() {
    let (api, traffic) = OpenSkyClient::scripted().await;
    let day = at("2026-11-20T00:00:00Z").date_naive();
    traffic.set_flights("KSFO", Direction::Arrival, day, vec![Flight::new("a1b2c3", 1, 2).to("KSFO").callsign("UAL1")]);
    traffic.set_flight_count("KSFO", Direction::Departure, day, 3);
    let begin = day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
    let path =
        |kind: &str, airport: &str| format!("/flights/{kind}?airport={airport}&begin={begin}&end={}", begin + 86_399);
    let rows: Value = api.get(&path("arrival", "KSFO")).await.json().await.expect("JSON");
    assert_eq!((&rows[0]["icao24"], &rows[0]["callsign"]), (&json!("a1b2c3"), &json!("UAL1    ")));
    let rows: Value = api.get(&path("departure", "KSFO")).await.json().await.expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(3));
    let nothing = api.get(&path("arrival", "LFPG")).await;
    assert_eq!(nothing.status(), 404);
    assert_eq!(nothing.text().await.expect("a text"), "");
    let asked = api.opensky.requests_to(Endpoint::Arrivals);
    assert_eq!((asked[0].param("airport"), asked[0].status), (Some("KSFO"), 200));
}

#[tokio::test]
async fn an_empty_sky_is_null_and_columns_can_be_forced() {
    let (api, traffic) = OpenSkyClient::scripted().await;
    let answer: Value = api.get("/states/all").await.json().await.expect("JSON");
    assert_eq!(answer, json!({ "time": at("2026-11-21T10:00:00Z").timestamp(), "states": null }));
    traffic.set_aircraft("Paris", 49.0, 2.5, 4);
    traffic.set_states(vec![State::new("3c6668", 50.0, 8.5, 7)]);
    let near: Value = api.get("/states/all?lamin=48&lomin=2&lamax=49.5&lomax=3").await.json().await.expect("JSON");
    assert_eq!(near["states"].as_array().map(Vec::len), Some(4));
    assert_eq!(near["states"][0][4], near["time"], "heard just now");
    api.opensky.set_columns(Some(18));
    let all: Value = api.get("/states/all").await.json().await.expect("JSON");
    assert!(all["states"].as_array().expect("rows").iter().all(|row| row.as_array().map(Vec::len) == Some(18)));
    assert_eq!(all["states"].as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn a_category_is_told_to_those_who_ask_for_it_and_to_nobody_else() {
    let (api, traffic) = OpenSkyClient::scripted().await;
    traffic.set_states(vec![State::new("3c6668", 50.0, 8.5, 7).category(16)]);
    let row = async |query: &str| -> Value {
        let answer: Value = api.get(&format!("/states/all{query}")).await.json().await.expect("JSON");
        answer["states"][0].clone()
    };
    for query in ["", "?extended=0"] {
        assert_eq!(row(query).await.as_array().map(Vec::len), Some(17), "{query}");
    }
    let extended = row("?extended=1").await;
    assert_eq!((extended.as_array().map(Vec::len), &extended[17]), (Some(18), &json!(16)));
}

#[tokio::test]
async fn bad_questions_are_refused_and_cost_nothing() {
    let (api, _) = OpenSkyClient::scripted().await;
    for path in ["/flights/arrival?airport=KSFO&begin=0&end=172800", "/flights/departure", "/states/all?lamin=1"] {
        assert_eq!(api.get(path).await.status(), 400, "{path}");
    }
    assert_eq!(api.get("/tracks/all").await.status(), 404);
    assert_eq!(api.opensky.credits(Bucket::Flights, Caller::Anonymous), 400);
}

#[tokio::test]
async fn a_test_waits_for_requests() {
    let (api, _) = OpenSkyClient::scripted().await;
    let waited = api.opensky.wait_for(SOON, |requests| requests.len() == 2);
    let (waited, _, _) = tokio::join!(waited, api.get("/states/all"), api.get(DAY));
    assert_eq!(waited.expect("both").len(), 2);
}

#[tokio::test]
async fn a_stopped_simulator_is_gone_and_may_come_back_on_its_port() {
    let (api, _) = OpenSkyClient::scripted().await;
    let addr = api.opensky.addr();
    let OpenSkyClient { opensky, client, .. } = api;
    opensky.stop().await;
    let gone = client.get(format!("http://{addr}/api/states/all")).send().await.expect_err("nobody");
    assert!(gone.is_connect(), "{gone:?}");
    let source = Source::Scripted(Scripted::new());
    let back = OpenSkyClient::start_with(source, "2026-11-21T10:00:00Z", |options| options.addr = addr).await;
    assert_eq!(back.get("/states/all").await.status(), 200);
}
