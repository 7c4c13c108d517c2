//! The recordings, asked as the collector asks.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use simulators::opensky::{Recording, Source};

use crate::OpenSkyClient;

const AROUND_LFPG: &str = "/states/all?lamin=48.59&lomin=1.91&lamax=49.43&lomax=3.19";
const AROUND_SFO: &str = "/states/all?lamin=37.2&lomin=-122.9&lamax=38.0&lomax=-121.8";

/// Decoded once for all tests, as a demo does.
fn recording() -> Source {
    static RECORDING: OnceLock<Arc<Recording>> = OnceLock::new();
    let recording = RECORDING.get_or_init(|| Arc::new(Recording::load().expect("the recording")));
    Source::Recording(Arc::clone(recording))
}

fn flights(kind: &str, airport: &str, day: u32) -> String {
    let begin = 1_633_046_400 + (day - 1) * 86_400;
    format!("/flights/{kind}?airport={airport}&begin={begin}&end={}", begin + 86_399)
}

async fn count(api: &OpenSkyClient, path: &str) -> (u16, usize) {
    let response = api.get(path).await;
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap_or_default();
    (status, body.as_array().map_or(0, Vec::len))
}

/// Aircraft within 25 nautical miles of LFPG that were heard under 60 s before the answer's time.
fn live(snapshot: &Value) -> usize {
    let time = snapshot["time"].as_i64().expect("a time");
    let rows = snapshot["states"].as_array().expect("states");
    let near = rows.iter().filter(|row| {
        let (east, north) = (row[5].as_f64().expect("a longitude"), row[6].as_f64().expect("a latitude"));
        let (wide, high) = ((east - 2.55) * 49.0128_f64.to_radians().cos() * 60.04, (north - 49.0128) * 60.04);
        time - row[4].as_i64().expect("a last contact") < 60 && wide.hypot(high) <= 25.0
    });
    near.count()
}

#[tokio::test]
async fn live_traffic_is_what_flew_around_paris() {
    let api = OpenSkyClient::start(recording(), "2021-10-07T12:10:00Z").await;
    for (time, expected) in [("12:10", 15), ("13:20", 6), ("13:33", 26), ("14:54", 12)] {
        api.clock.set(&format!("2021-10-07T{time}:07Z"));
        let answer: Value = api.get(AROUND_LFPG).await.json().await.expect("JSON");
        assert_eq!(live(&answer), expected, "at {time}");
        let row = answer["states"][0].as_array().expect("a row");
        assert_eq!(row.len(), 17);
        assert!(row[1].as_str().is_some_and(|callsign| callsign.len() == 8), "{row:?}");
    }
    let extended: Value = api.get(&format!("{AROUND_LFPG}&extended=1")).await.json().await.expect("JSON");
    assert_eq!(extended["states"][0].as_array().map(Vec::len), Some(18));
    let one = extended["states"][0][0].as_str().expect("an address").to_owned();
    let alone: Value = api.get(&format!("{AROUND_LFPG}&icao24={one}")).await.json().await.expect("JSON");
    assert_eq!(alone["states"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn live_is_unknown_before_the_recording_begins_and_from_its_end_on() {
    let api = OpenSkyClient::start(recording(), "2021-10-07T12:09:59Z").await;
    for (time, status) in
        [("12:09:59", 503), ("12:10:00", 200), ("14:54:59", 200), ("14:55:00", 503), ("23:00:00", 503)]
    {
        api.clock.set(&format!("2021-10-07T{time}Z"));
        assert_eq!(api.get(AROUND_LFPG).await.status(), status, "at {time}");
    }
}

#[tokio::test]
async fn what_was_not_recorded_is_refused_and_never_a_false_zero() {
    let api = OpenSkyClient::start(recording(), "2021-10-07T13:00:00Z").await;
    for path in [AROUND_SFO, "/states/all", "/states/all?lamin=48.59&lomin=-1&lamax=51&lomax=3.19"] {
        let response = api.get(path).await;
        assert_eq!(response.status(), 400, "{path}");
        assert!(response.text().await.expect("a text").contains("Paris only"), "{path}");
    }
    for path in [flights("arrival", "LFPG", 6), flights("departure", "KSFO", 2), flights("arrival", "KSFO", 1)] {
        assert_eq!(count(&api, &path).await, (400, 0), "{path}");
    }
}

#[tokio::test]
async fn the_newer_day_is_published_at_a_quarter_to_one() {
    let api = OpenSkyClient::start(recording(), "2021-10-07T12:44:59Z").await;
    for airport in ["KSFO", "LFPG", "EDDF"] {
        assert_eq!(count(&api, &flights("arrival", airport, 6)).await, (404, 0), "{airport}");
    }
    assert_eq!(count(&api, &flights("arrival", "KSFO", 5)).await, (200, 458));
    assert_eq!(count(&api, &flights("departure", "KSFO", 5)).await, (200, 459));
    api.clock.set("2021-10-07T12:45:00Z");
    assert_eq!(count(&api, &flights("arrival", "KSFO", 6)).await, (200, 353));
    assert_eq!(count(&api, &flights("departure", "KSFO", 6)).await, (200, 355));
    assert_eq!(count(&api, &flights("arrival", "KSFO", 7)).await, (404, 0), "today is not published");
    assert_eq!(count(&api, &flights("arrival", "LFPG", 7)).await, (404, 0), "for nobody");
}

#[tokio::test]
async fn a_window_of_two_days_holds_what_is_published_of_them() {
    let api = OpenSkyClient::start(recording(), "2021-10-07T12:44:59Z").await;
    let window = |first: i64, last: i64| {
        let day = |day: i64| 1_633_046_400 + (day - 1) * 86_400;
        format!("/flights/arrival?airport=KSFO&begin={}&end={}", day(first), day(last) + 86_399)
    };
    assert_eq!(count(&api, &window(5, 6)).await, (200, 458));
    assert_eq!(count(&api, &window(4, 6)).await, (400, 0));
    api.clock.set("2021-10-07T12:45:00Z");
    assert_eq!(count(&api, &window(5, 6)).await, (200, 458 + 353));
}

#[tokio::test]
async fn an_arrival_is_found_by_when_it_landed() {
    let api = OpenSkyClient::start(recording(), "2021-10-07T13:00:00Z").await;
    let rows: Value = api.get(&flights("arrival", "KSFO", 5)).await.json().await.expect("JSON");
    for row in rows.as_array().expect("rows") {
        let (first, last) = (row["firstSeen"].as_i64().expect("a time"), row["lastSeen"].as_i64().expect("a time"));
        assert!((1_633_392_000..1_633_478_400).contains(&last) && first < last, "{row}");
        assert_eq!(row["estArrivalAirport"], "KSFO");
        assert!(airports::lookup(row["estDepartureAirport"].as_str().expect("an airport")).is_some(), "{row}");
    }
}
