//! How fast it is: printed for who wants to know, and asserted only to be no disaster.

use std::time::{Duration, Instant};

use crate::test_env::{Interest, PATIENCE, Sent, TestEnv, Worker};

const INTERESTS: usize = 100_000;

async fn send_round(env: &TestEnv, interests: &[Interest], seq: i64, crossing: impl Fn(usize) -> bool) {
    let value = |index| if crossing(index) { 11 } else { 5 };
    for (page, interests) in interests.chunks(5_000).enumerate() {
        let messages: Vec<Sent> =
            (page * 5_000..).zip(interests).map(|(index, interest)| interest.reading(seq, value(index))).collect();
        env.send(&messages).await;
    }
}

/// Prints how long the worker takes for each of `rounds`, which wait in the topic already.
async fn time(worker: &Worker, rounds: &[&str]) {
    let settled = || worker.metric("consumer_records_settled_total", "") as usize;
    testkit::wait_for("the first to be settled", PATIENCE, async || settled() > 0).await;
    let mut begun = Instant::now();
    for (index, round) in (1..).zip(rounds) {
        testkit::wait_for(round, 3 * PATIENCE, async || settled() >= index * INTERESTS).await;
        let taken: Duration = begun.elapsed();
        println!("{round}: {INTERESTS} messages in {taken:.2?}, {:.0}/s", INTERESTS as f64 / taken.as_secs_f64());
        begun = Instant::now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_interests_are_decided_in_seconds() {
    let env = TestEnv::new().await;
    let interests: Vec<_> = (0..INTERESTS).map(|_| Interest::new()).collect();
    send_round(&env, &interests, 1, |_| false).await;
    send_round(&env, &interests, 2, |_| false).await;
    send_round(&env, &interests, 3, |index| index.is_multiple_of(20)).await;
    let worker = env.start().await;
    time(&worker, &["all new", "nothing changes", "one in twenty crosses"]).await;
    env.settled().await;
    worker.stop().await;
    send_round(&env, &interests, 4, |index| index.is_multiple_of(20)).await;
    let worker = env.start().await;
    time(&worker, &["after a restart, nothing changes"]).await;
    env.settled().await;
    assert_eq!(env.alert_records().await.len(), INTERESTS / 20);
    worker.stop().await;
}
