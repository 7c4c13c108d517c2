//! Processes that die by SIGKILL, at every named point between two effects and at random moments.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use shell::fault::FAULT_POINT;

use crate::town::{SERVICES, Town, register};

/// The points on the way from a reading to a message, with the service that dies there.
const POINTS: [(&str, &str); 11] = [
    ("data-collector", "data-collector.asked-not-stored"),
    ("data-collector", "data-collector.reading-stored"),
    ("data-collector", "data-collector.page-sent-not-recorded"),
    ("alert-system", "alert-system.decided-not-told"),
    ("alert-system", "alert-system.told-not-written"),
    ("alert-system", "alert-system.written-not-stored"),
    ("alert-system", "stream.settled-not-stored"),
    ("notifier", "notifier.ledger-written"),
    ("notifier", "notifier.attempt-written"),
    ("notifier", "notifier.sent-not-recorded"),
    ("notifier", "stream.settled-not-stored"),
];

/// A sky that is full and empty in turn, and what somebody must be told about it.
struct Turns {
    full: bool,
    told: Vec<&'static str>,
}

impl Turns {
    async fn begin(town: &Town) -> Self {
        town.world.aircraft(3);
        let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
        register(&town.client, &town.base, "ada@example.org", 7, interest).await;
        Self { full: false, told: Vec::new() }
    }

    fn turn(&mut self, town: &Town) {
        self.full = !self.full;
        town.world.aircraft(if self.full { 8 } else { 3 });
        self.told.push(if self.full { "exceeded the high threshold" } else { "is back within the thresholds" });
    }

    /// Waits for the message of this turn. Only where `may_repeat` may one be there twice: the
    /// sender died with Telegram's answer.
    async fn is_told(&mut self, town: &Town, may_repeat: bool, after: &str) {
        let expected = *self.told.last().expect("a turn");
        let count = self.told.len();
        let is_there =
            |texts: &[String]| texts.last().is_some_and(|text| text.contains(expected)) && texts.len() >= count;
        town.world.texts(is_there).await;
        // A repetition comes before the ledger has settled.
        town.settled().await;
        let texts = town.world.texts(is_there).await;
        let repeated = texts.len() - count;
        assert!(repeated <= usize::from(may_repeat), "{after}: {repeated} too many in {texts:#?}");
        for _ in 0..repeated {
            self.told.push(expected);
        }
        for (text, told) in texts.iter().zip(&self.told) {
            assert!(text.contains(told), "{after}: {texts:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_any_two_effects_loses_no_alert_and_repeats_none() {
    let mut town = Town::build().await;
    let mut turns = Turns::begin(&town).await;
    turns.turn(&town);
    turns.is_told(&town, false, "before any death").await;
    for (service, point) in POINTS {
        town.kill(service).await;
        town.start_with(service, &[(FAULT_POINT, point.to_owned())]).await;
        turns.turn(&town);
        assert_eq!(town.program(service).code().await, 128 + 9, "{service} dies at {point}");
        town.start(service).await;
        turns.is_told(&town, point == "notifier.sent-not-recorded", point).await;
    }
    town.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_killed_at_random_moments_lose_no_alert_and_repeat_none_beyond_the_promise() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut town = Town::build().await;
    let mut turns = Turns::begin(&town).await;
    for round in 0..20 {
        let victim = SERVICES[dice.random_range(0..SERVICES.len())];
        turns.turn(&town);
        // Not a wait for anything: the moment of the blow.
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..1500))).await;
        town.kill(victim).await;
        town.start(victim).await;
        turns.is_told(&town, victim == "notifier", &format!("seed {seed} round {round} {victim}")).await;
    }
    town.close().await;
}
