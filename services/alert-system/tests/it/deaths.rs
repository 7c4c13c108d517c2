//! The real process, ended by SIGTERM, by SIGKILL, and at every point between two effects.

use runtime::fault::FAULT_POINT;
use testkit::last_words;
use uuid::Uuid;

use crate::{
    processes::{WORKER, start},
    test_env::{Interest, Sent, TestEnv},
};

const FLIGHT_COUNTS: [u32; 6] = [5, 11, 12, 5, 0, 5];
const TOLD: [&str; 4] = ["high", "recovered", "low", "recovered"];

fn round(interests: &[Interest], seq: usize) -> Vec<Sent> {
    let flights = FLIGHT_COUNTS[seq];
    interests.iter().map(|interest| interest.reading(i64::try_from(seq).unwrap(), flights)).collect()
}

async fn assert_all_was_told(env: &TestEnv, interests: &[Interest]) {
    let ledger = env.ledger().await;
    for interest in interests {
        assert_eq!(interest.kinds_in(&ledger), TOLD, "{}", interest.id);
    }
}

#[tokio::test]
async fn a_death_at_any_point_between_two_effects_loses_no_alert_and_invents_none() {
    let lone = TestEnv::alone().await;
    let env = &lone.env;
    let interests: Vec<_> = (0..30).map(|_| Interest::new()).collect();
    env.send(&round(&interests, 0)).await;
    let points = [
        "alert-system.decided-not-told",
        "alert-system.told-not-written",
        "alert-system.written-not-stored",
        "kafka.settled-not-stored",
    ];
    for (seq, point) in (1..).zip(points) {
        env.send(&round(&interests, seq)).await;
        println!("dies at {point}");
        start(env, &[(FAULT_POINT, point)]).killed().await;
    }
    env.send(&round(&interests, 5)).await;
    let process = start(env, &[]);
    env.settled().await;
    assert_all_was_told(env, &interests).await;
    process.stop().await;
}

#[tokio::test]
async fn sigterm_and_sigkill_in_the_middle_of_the_work_lose_no_alert_and_invent_none() {
    let lone = TestEnv::alone().await;
    let env = &lone.env;
    let interests: Vec<_> = (0..400).map(|_| Interest::new()).collect();
    let seed = Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let already = env.ledger().await.len();
    for seq in 0..FLIGHT_COUNTS.len() {
        env.send(&round(&interests, seq)).await;
    }
    // The moment is when so many alerts are out.
    for death in 1..=3 {
        let process = start(env, &[]);
        let moment = seed.wrapping_mul(death).wrapping_mul(6_364_136_223_846_793_005) >> 33;
        let moment = already + usize::try_from(moment % 400).unwrap() + 400 * usize::try_from(death - 1).unwrap();
        env.wait_until_sent(moment).await;
        if death == 2 {
            process.stop().await;
        } else {
            process.kill().await;
        }
    }
    let process = start(env, &[]);
    env.settled().await;
    assert_all_was_told(env, &interests).await;
    process.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_all_told_before_anything_is_bound() {
    let (code, words) = last_words(WORKER, &[("KAFKA_PARTITIONS", "none"), ("ADMIN_ADDR", "somewhere")]).await;
    assert_eq!(code, Some(2), "{words}");
    for key in ["DATABASE_URL", "KAFKA_BROKER_URL", "KAFKA_PARTITIONS", "ADMIN_ADDR"] {
        assert!(words.contains(key), "{key} is not in {words}");
    }
}
