//! The recorded afternoon around Paris and the two recorded days of San Francisco, as the demo plays
//! them.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::support::{TestEnv, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn the_recordings_cross_their_thresholds_where_they_should() {
    let env = TestEnv::replay(240).await;
    env.person("ada@example.org");
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(60)).await;
    let paris = app.watch("ada@example.org", "LFPG", "live", Some(23), Some(10)).await;
    app.watch("ada@example.org", "KSFO", "arrivals", None, Some(400)).await;
    let daily = app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 458).await;
    assert_eq!(daily["window_begin"], "2021-10-05T00:00:00Z");
    assert!(daily["observed_at"].as_str() < Some("2021-10-07T12:45"), "{daily}");
    let newer = app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 353).await;
    assert_eq!(newer["window_begin"], "2021-10-06T00:00:00Z");
    let between = |begin: &'static str, end: &'static str| {
        move |sent: &serde_json::Value| {
            let time = sent["reading"]["observed_at"].as_str().expect("a time");
            (begin..end).contains(&time.get(11..16).expect("a time"))
        }
    };
    // All of it takes longer than one wait may.
    wait_for("most of it", async || (env.clock.now().to_rfc3339().as_str() > "2021-10-07T14:15").then_some(())).await;
    let past_the_end = |sent: &[serde_json::Value]| sent.iter().any(between("14:57", "24:00"));
    wait_for("the end of the recording", async || past_the_end(&env.sent_to(paris).await).then_some(())).await;
    let sent = env.sent_to(paris).await;
    let counts = |begin, end| -> Vec<Option<i64>> {
        sent.iter().filter(|sent| between(begin, end)(sent)).map(|sent| sent["flight_count"].as_i64()).collect()
    };
    assert!(
        counts("12:11", "13:14").iter().all(|count| count.is_some_and(|count| (10..=23).contains(&count))),
        "{:?}",
        counts("12:11", "13:14")
    );
    assert!(
        counts("13:18", "13:22").iter().all(|count| count.is_some_and(|count| count < 10)),
        "{:?}",
        counts("13:18", "13:22")
    );
    assert!(
        counts("13:30", "13:35").iter().any(|count| count.is_some_and(|count| count > 23)),
        "{:?}",
        counts("13:30", "13:35")
    );
    assert!(counts("14:56", "24:00").iter().all(Option::is_none), "{:?}", counts("14:56", "24:00"));
    let times: Vec<DateTime<Utc>> = sent
        .iter()
        .map(|sent| sent["reading"]["observed_at"].as_str().expect("a time").parse().expect("a time"))
        .collect();
    let minutes = (times[times.len() - 1] - times[0]).num_minutes();
    println!("{} readings of Paris in {minutes} min", times.len());
    assert!(i64::try_from(times.len()).expect("a count") <= minutes + 2, "more often than the interval says");
    app.stop().await;
}
