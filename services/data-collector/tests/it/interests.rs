use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde_json::json;
use simulators::opensky::{Endpoint, Failure};

use crate::support::{Mode, TestEnv, wait_for};

/// A trace context that is sampled.
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn a_new_interest_is_collected_at_once_and_reaches_kafka() {
    let env = TestEnv::new().await;
    let user_id = env.person("ada@example.org");
    env.scripted.set_aircraft("a", 49.0, 2.5, 7);
    let app = env.start().await;
    let headers = [("X-Request-Id", "req-7"), ("traceparent", SAMPLED)];
    let body = json!({"email": " Ada@Example.org ", "airport_code": "lfpg", "metric": "live", "high_value": 5});
    let answer = app.call_with("POST", "/interests", Some(body.clone()), &headers).await;
    assert_eq!((answer.status, &answer.body), (201, &json!({"message": "Interest added and data fetch initiated"})));
    let interest = app.interest("ada@example.org", "LFPG", "live").await;
    let id = interest["id"].as_str().expect("an id").parse().expect("an id");
    let sent = env.wait_sent(id, |sent| !sent.is_empty()).await;
    assert_eq!(sent[0]["flight_count"], 7, "{}", sent[0]);
    assert_eq!((&sent[0]["high_value"], &sent[0]["low_value"]), (&json!(5), &json!(null)));
    assert_eq!((&sent[0]["user_id"], &sent[0]["interest_version"]), (&json!(user_id.to_string()), &json!(1)));
    assert_eq!((&sent[0]["user_email"], &sent[0]["airport_code"]), (&json!("ada@example.org"), &json!("LFPG")));
    assert_eq!((&sent[0]["reading"]["seq"], &sent[0]["reading"]["source"]), (&json!(1), &json!("OpenSky Network")));
    let caused = |headers: &HashMap<String, String>, name: &str| headers.get(name).cloned();
    let headers = &env.records().await[0].headers;
    assert_eq!(caused(headers, "request_id").as_deref(), Some("req-7"), "{headers:?}");
    assert_eq!(caused(headers, "traceparent").as_deref(), Some(SAMPLED), "{headers:?}");
    let again = app.post(body).await;
    assert_eq!((again.status, again.body), (200, json!({"message": "Interest already exists"})));
    app.stop().await;
}

/// Of a message to an interest: the request id that it carried, its version and its value.
type RowContext = (Option<String>, i64, Option<i64>);

/// What was told to an interest, each event once: a reading may reach it by two ways.
async fn request_ids(env: &TestEnv, interest: uuid::Uuid) -> Vec<RowContext> {
    let records = env.records().await.into_iter().filter(|record| record.key == interest);
    let mut seen = HashSet::new();
    let told = records.filter_map(|record| {
        let value = record.value.filter(|value| seen.insert(value["event_id"].to_string()))?;
        let version = value["interest_version"].as_i64()?;
        Some((record.headers.get("request_id").cloned(), version, value["flight_count"].as_i64()))
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_named_until_a_value_was_sent_for_it_and_no_longer() {
    let env = TestEnv::at_speed(60).await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", 49.0, 2.5, 7);
    env.opensky.fail(Endpoint::States, Failure::Status(500));
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(60)).await;
    let mut body = json!({"email": "ada@example.org", "airport_code": "LFPG", "metric": "live", "high_value": 5});
    assert_eq!(app.call_with("POST", "/interests", Some(body.clone()), &[("X-Request-Id", "req-1")]).await.status, 201);
    let id = app.interest("ada@example.org", "LFPG", "live").await["id"].as_str().expect("an id").parse().expect("id");
    let told = async |enough: &dyn Fn(&[RowContext]) -> bool| {
        wait_for("messages", async || {
            let told = request_ids(&env, id).await;
            enough(&told).then_some(told)
        })
        .await
    };
    let first = told(&|told| told.last().is_some_and(|(request, ..)| request.is_none())).await;
    let name = |id: &str| Some(id.to_owned());
    assert_eq!(first[..2], [(name("req-1"), 1, None), (name("req-1"), 1, Some(7))], "{first:?}");
    assert!(first[2..].iter().all(|(request, ..)| request.is_none()), "{first:?}");
    // A change is another cause, of which the first message speaks.
    body["high_value"] = 4.into();
    assert_eq!(app.call_with("PUT", "/interests", Some(body), &[("X-Request-Id", "req-2")]).await.status, 200);
    let changed =
        told(&|told| told.last().is_some_and(|(request, version, _)| (request, *version) == (&None, 2))).await;
    let second = changed.iter().find(|(_, version, _)| *version == 2).expect("a message of the second version");
    assert_eq!(second.0, name("req-2"), "{changed:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asked_for_an_interest_without_thresholds_is_forgotten_although_nothing_is_sent() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.opensky.fail_always(Endpoint::States, Failure::Status(500));
    let app = env.start().await;
    let body = json!({"email": "ada@example.org", "airport_code": "LFPG", "metric": "live"});
    assert_eq!(app.call_with("POST", "/interests", Some(body), &[("X-Request-Id", "req-1")]).await.status, 201);
    wait_for("the cause to be forgotten", async || {
        let caused = env.scalar("SELECT count(*) FROM interests WHERE request_id IS NOT NULL").await;
        (caused == 0).then_some(())
    })
    .await;
    assert!(env.records().await.is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_interest_is_judged_by_the_reading_that_is_there_without_another_call() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.person("bob@example.org");
    env.scripted.set_aircraft("a", 49.0, 2.5, 7);
    let app = env.start().await;
    let first = app.watch("ada@example.org", "LFPG", "live", Some(5), None).await;
    env.wait_sent(first, |sent| !sent.is_empty()).await;
    let headers = [("X-Request-Id", "req-8")];
    let body = json!({"email": "bob@example.org", "airport_code": "LFPG", "metric": "live", "low_value": 9});
    assert_eq!(app.call_with("POST", "/interests", Some(body), &headers).await.status, 201);
    let second =
        app.interest("bob@example.org", "LFPG", "live").await["id"].as_str().expect("an id").parse().expect("an id");
    let sent = env.wait_sent(second, |sent| !sent.is_empty()).await;
    assert_eq!((&sent[0]["reading"]["seq"], &sent[0]["flight_count"]), (&json!(1), &json!(7)));
    let records = env.records().await;
    let headers = &records.iter().find(|record| record.key == second).expect("a record").headers;
    assert_eq!(headers.get("request_id").map(String::as_str), Some("req-8"), "{headers:?}");
    assert_eq!(headers.get("ce_type").map(String::as_str), Some("flightbell.reading.v1"));
    assert_eq!(env.opensky.requests_to(simulators::opensky::Endpoint::States).len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bodies_get_the_contract_s_answers() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let app = env.start().await;
    let cases = [
        (json!({}), 400, "Missing email or airport_code"),
        (json!({"email": "ada@example.org"}), 400, "Missing email or airport_code"),
        (json!({"email": "ada@example.org", "airport_code": " "}), 400, "Missing email or airport_code"),
        (json!({"email": "ada@example.org", "airport_code": "XXXX"}), 400, "Unknown airport code"),
        (json!({"email": "ada@example.org", "airport_code": "a much too long code"}), 400, "Unknown airport code"),
        (json!({"email": "ada", "airport_code": "LFPG"}), 422, "Validation failed"),
        (json!({"email": "ada@example.org", "airport_code": 7}), 422, "Validation failed"),
        (json!({"email": "ada@example.org", "airport_code": "LFPG", "metric": "moon"}), 422, "Validation failed"),
        (json!({"email": "ada@example.org", "airport_code": "LFPG", "high_value": "7"}), 422, "Validation failed"),
        (json!({"email": "ada@example.org", "airport_code": "LFPG", "high_value": 1.5}), 422, "Validation failed"),
        (json!({"email": "ada@example.org", "airport_code": "LFPG", "low_value": -1}), 422, "Validation failed"),
        (json!({"email": "ada@example.org", "airport_code": "LFPG", "high_value": 100_001}), 422, "Validation failed"),
        (
            json!({"email": "ada@example.org", "airport_code": "LFPG", "high_value": 2, "low_value": 2}),
            400,
            "high_value must be greater than low_value",
        ),
        (json!({"email": "eve@example.org", "airport_code": "LFPG"}), 404, "User does not exist"),
    ];
    for (body, status, error) in cases {
        let answer = app.post(body.clone()).await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (status, Some(error)), "{body}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let paths = [
        ("/flights/XXXX", 400),
        ("/flights/%FF", 400),
        ("/flights/%00", 400),
        ("/flights/average/%FF", 400),
        ("/flights/last/%C3%28", 400),
        ("/flights/LFPG?type=arrivals&type=departures", 400),
        ("/flights/LFPG?type=moon", 400),
        ("/flights/LFPG?type=%FF", 400),
        ("/flights/LFPG?limit=1&limit=2", 422),
        ("/flights/LFPG?limit=0", 422),
        ("/flights/LFPG?cursor=moon", 422),
        ("/readings/XXXX", 400),
        ("/readings/%FF", 400),
        ("/readings/LFPG?metric=live&metric=live", 422),
        ("/readings/LFPG?metric=moon", 422),
        ("/interests/eve@example.org", 404),
        ("/interests/%FF", 404),
        ("/interests/%00", 404),
        ("/docs/%FF", 404),
    ];
    for (path, status) in paths {
        for prefix in ["", "/data-collector"] {
            let answer = app.get(&format!("{prefix}{path}")).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
            assert!(answer.body["error"].is_string(), "{path}: {}", answer.body);
        }
    }
    assert_eq!(env.scalar("SELECT count(*) FROM interests").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_judged_at_once_and_null_clears_a_threshold() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", 49.0, 2.5, 7);
    let app = env.start().await;
    let id = app.watch("ada@example.org", "CDG", "live", None, None).await;
    app.wait_reading("LFPG", "live", |_| true).await;
    let body = |more: serde_json::Value| {
        let mut body = json!({"email": "ada@example.org", "airport_code": "LFPG", "metric": "live"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let nothing = app.put(body(json!({}))).await;
    assert_eq!(
        (nothing.status, nothing.body["error"].as_str()),
        (400, Some("At least one of high_value or low_value is required"))
    );
    let changed = app.put(body(json!({"high_value": 5, "low_value": 2}))).await;
    assert_eq!((changed.status, &changed.body["message"]), (200, &json!("Interest updated successfully")));
    let sent = env.wait_sent(id, |sent| !sent.is_empty()).await;
    assert_eq!(
        (&sent[0]["interest_version"], &sent[0]["high_value"], &sent[0]["low_value"]),
        (&json!(2), &json!(5), &json!(2))
    );
    // The same once more is no change.
    assert_eq!(app.put(body(json!({"high_value": 5}))).await.status, 200);
    let crossed = app.put(body(json!({"low_value": 5}))).await;
    assert_eq!(
        (crossed.status, crossed.body["error"].as_str()),
        (400, Some("high_value must be greater than low_value"))
    );
    assert_eq!(app.put(body(json!({"high_value": null, "low_value": 6}))).await.status, 200);
    // The reading's own fan-out may have met the version before as well.
    let sent = env.wait_sent(id, |sent| sent.iter().any(|sent| sent["interest_version"] == 3)).await;
    let newest = &sent[sent.len() - 1];
    assert_eq!(
        (&newest["interest_version"], &newest["high_value"], &newest["low_value"]),
        (&json!(3), &json!(null), &json!(6))
    );
    assert_ne!(sent[0]["event_id"], newest["event_id"]);
    let none_left = app.put(body(json!({"low_value": null}))).await;
    assert_eq!(
        (none_left.status, none_left.body["error"].as_str()),
        (400, Some("At least one of high_value or low_value is required"))
    );
    assert_eq!(app.interest("ada@example.org", "LFPG", "live").await["low_value"], 6);
    let unknown = json!({"email": "ada@example.org", "airport_code": "LFPO", "high_value": 5});
    assert_eq!(app.put(unknown).await.body["error"], "Interest not found");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_told_after_everything_else_and_happens_once() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", 49.0, 2.5, 7);
    let app = env.start().await;
    let id = app.watch("ada@example.org", "LFPG", "live", Some(5), None).await;
    env.wait_sent(id, |sent| !sent.is_empty()).await;
    let body = json!({"email": "ada@example.org", "airport_code": "LFPG", "metric": "live"});
    let put = json!({"email": "ada@example.org", "airport_code": "LFPG", "metric": "live", "high_value": 6});
    assert_eq!(app.put(put).await.status, 200);
    let removed = app.delete(body.clone()).await;
    assert_eq!((removed.status, &removed.body), (200, &json!({"message": "Interest removed and cleanup initiated"})));
    wait_for("the removal", async || {
        let records = env.records().await;
        let own: Vec<_> = records.iter().filter(|record| record.key == id).collect();
        own.last().is_some_and(|last| last.value.is_none()).then_some(())
    })
    .await;
    let again = app.delete(body).await;
    assert_eq!((again.status, again.body["error"].as_str()), (404, Some("Interest not found")));
    assert_eq!(env.scalar("SELECT count(*) FROM jobs").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_interest_sent_at_once_many_times_is_one() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let app = env.start().await;
    let body = json!({"email": "ada@example.org", "airport_code": "LFPG", "high_value": 5});
    let calls = (0..10).map(|_| app.post(body.clone()));
    let statuses: Vec<u16> = futures::future::join_all(calls).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 9, "{statuses:?}");
    assert_eq!(env.scalar("SELECT count(*) FROM interests").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_people_who_come_at_once_are_all_served() {
    let env = TestEnv::new().await;
    let app = env.start().await;
    // A low threshold has the airport's coverage looked up, while the interest's transaction is open.
    let calls = (0..60).map(|person| {
        let email = format!("user{person}@example.org");
        env.person(&email);
        app.post(json!({"email": email, "airport_code": "LFPG", "metric": "live", "low_value": 5}))
    });
    let calls: Vec<_> = calls.collect();
    let statuses: Vec<u16> = futures::future::join_all(calls).await.iter().map(|answer| answer.status).collect();
    assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_a_call_safe_to_repeat() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let app = env.start().await;
    let key = [("Idempotency-Key", "k1")];
    let body = json!({"email": "ada@example.org", "airport_code": "LFPG", "high_value": 5});
    let first = app.call_with("POST", "/interests", Some(body.clone()), &key).await;
    env.people.set(Mode::Refuses);
    let second = app.call_with("POST", "/interests", Some(body.clone()), &key).await;
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!((first.body, second.headers["idempotent-replayed"].as_bytes()), (second.body, &b"true"[..]));
    let other = json!({"email": "ada@example.org", "airport_code": "LFPO", "high_value": 5});
    assert_eq!(app.call_with("POST", "/interests", Some(other.clone()), &key).await.status, 422);
    // An answer of 503 is not kept.
    let key = [("Idempotency-Key", "k2")];
    assert_eq!(app.call_with("POST", "/interests", Some(other.clone()), &key).await.status, 503);
    env.people.set(Mode::Answers);
    assert_eq!(app.call_with("POST", "/interests", Some(other), &key).await.status, 201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_while_user_manager_is_away() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let app = env.start().await;
    for mode in [Mode::Refuses, Mode::Hangs] {
        env.people.set(mode);
        let body = json!({"email": "ada@example.org", "airport_code": "LFPG", "high_value": 5});
        for answer in [app.post(body.clone()).await, app.put(body.clone()).await, app.delete(body).await] {
            assert_eq!(answer.status, 503, "{mode:?}");
            assert!(answer.headers.contains_key("retry-after"));
        }
        assert_eq!(app.get("/interests/ada@example.org").await.status, 503);
    }
    assert_eq!(env.scalar("SELECT count(*) FROM interests").await, 0);
    env.people.set(Mode::Answers);
    app.watch("ada@example.org", "LFPG", "flights", Some(5), None).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_at_most_so_many_interests() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let app = env.start_with(|config| config.interests_per_user = 2).await;
    for metric in ["arrivals", "departures"] {
        app.watch("ada@example.org", "LFPG", metric, Some(5), None).await;
    }
    let body = |metric| json!({"email": "ada@example.org", "airport_code": "LFPG", "metric": metric, "high_value": 1});
    assert_eq!(app.post(body("live")).await.status, 422);
    assert_eq!(app.post(body("arrivals")).await.status, 200, "one that is there is no addition");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_an_id_means_what_is_under_it_now() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.person("bob@example.org");
    let app = env.start().await;
    let id = app.watch("ada@example.org", "LFPG", "arrivals", Some(5), None).await;
    app.watch("ada@example.org", "LFPG", "live", Some(5), None).await;
    app.watch("bob@example.org", "LFPG", "live", Some(5), None).await;
    for wrong in ["", "ada", "ada@"] {
        let refused = app.delete_user(wrong, None).await.expect_err("that is nobody's address");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{wrong}");
    }
    assert_eq!(app.delete_user("eve@example.org", None).await.expect("nothing to do"), 0);
    assert_eq!(app.delete_user(" Ada@Example.org", None).await.expect("deleted"), 2);
    assert_eq!(app.delete_user("ada@example.org", None).await.expect("deleted"), 0);
    wait_for("the removal", async || {
        env.records().await.iter().any(|record| record.key == id && record.value.is_none()).then_some(())
    })
    .await;
    app.watch("ada@example.org", "LFPG", "arrivals", Some(5), None).await;
    assert_eq!(app.delete_user("bob@example.org", None).await.expect("deleted"), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interests_do_not_outlive_their_user() {
    let env = TestEnv::new().await;
    let user_id = env.person("ada@example.org");
    let app = env.start().await;
    let id = app.watch("ada@example.org", "LFPG", "arrivals", Some(5), None).await;
    app.watch("ada@example.org", "LFPG", "live", Some(5), None).await;
    assert_eq!(app.delete_user("ada@example.org", Some(user_id)).await.expect("deleted"), 2);
    assert_eq!(app.delete_user("ada@example.org", Some(user_id)).await.expect("deleted"), 0);
    wait_for("the removal", async || {
        env.records().await.iter().any(|record| record.key == id && record.value.is_none()).then_some(())
    })
    .await;
    // A late request of the same registration is refused, also when user-manager still says yes.
    let body = json!({"email": "ada@example.org", "airport_code": "LFPG", "high_value": 5});
    let late = app.post(body.clone()).await;
    assert_eq!((late.status, late.body["error"].as_str()), (404, Some("User does not exist")));
    // A user who registers again is another person, whom a late deletion does not touch.
    env.person("ada@example.org");
    assert_eq!(app.post(body).await.status, 201);
    assert_eq!(app.delete_user("ada@example.org", Some(user_id)).await.expect("deleted"), 0);
    assert_eq!(env.scalar("SELECT count(*) FROM interests").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_races_an_addition_leaves_nothing() {
    let env = TestEnv::new().await;
    let app = env.start().await;
    for round in 0..10 {
        let email = format!("user{round}@example.org");
        let user_id = env.person(&email);
        let body = json!({"email": email, "airport_code": "LFPG", "metric": "live", "high_value": 5});
        let (_, deleted) = tokio::join!(app.post(body), app.delete_user(&email, Some(user_id)));
        deleted.expect("deleted");
    }
    assert_eq!(env.scalar("SELECT count(*) FROM interests").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself() {
    let env = TestEnv::new().await;
    let app = env.start().await;
    let document = app.get("/openapi.json").await.body;
    let paths: Vec<&str> = document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    let expected = [
        "/flights/average/{icao}",
        "/flights/last/{icao}",
        "/flights/{airport_code}",
        "/interests",
        "/interests/{email}",
        "/readings/{airport_code}",
    ];
    assert_eq!(paths, expected);
    let operations = document["paths"]["/interests"].as_object().expect("operations");
    assert!(["post", "put", "delete"].iter().all(|method| operations.contains_key(*method)), "{operations:?}");
    let description = document["info"]["description"].as_str().expect("a description");
    assert!(description.contains("counts aircraft only") && description.contains("16 to 20"), "{description}");
    assert_eq!(app.get("/data-collector/ping").await.body["message"], "pong");
    assert_eq!(app.get("/data-collector/metrics").await.status, 404);
    app.stop().await;
}
