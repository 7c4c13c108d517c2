//! Processes that die by SIGKILL, at every named point between two effects and at random moments.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use runtime::{
    config::{ProcessEnv, Vars},
    fault::FAULT_POINT,
};
use serde_json::{Value, json};

use crate::{
    town::{PROCESSES, Town, World, post, register},
    up::House,
};

/// The points on the way from a reading to a message, with the service that dies there.
const POINTS: [(&str, &str); 11] = [
    ("data-collector", "data-collector.asked-not-stored"),
    ("data-collector", "data-collector.reading-stored"),
    ("data-collector", "data-collector.page-sent-not-recorded"),
    ("alert-system", "alert-system.decided-not-told"),
    ("alert-system", "alert-system.told-not-written"),
    ("alert-system", "alert-system.written-not-stored"),
    ("alert-system", "kafka.settled-not-stored"),
    ("notifier", "notifier.ledger-written"),
    ("notifier", "notifier.attempt-written"),
    ("notifier", "notifier.sent-not-recorded"),
    ("notifier", "kafka.settled-not-stored"),
];

/// The environment key that repeats a run: the seed that a test with random moments has printed.
const SEED: &str = "FLIGHTBELL_TEST_SEED";

/// The seed that is asked for, or a new one, and dice that fall by it.
fn dice() -> (u64, StdRng) {
    let asked = ProcessEnv.get(SEED).map(|seed| seed.parse().expect("a number"));
    let seed = asked.unwrap_or_else(|| rand::rng().random());
    println!("seed {seed}: set {SEED} to it for the same victims and moments");
    (seed, StdRng::seed_from_u64(seed))
}

/// A sky that is full and empty in turn, and what somebody must be told about it.
struct Turns {
    full: bool,
    told: Vec<&'static str>,
}

impl Turns {
    async fn begin(world: &World, client: &reqwest::Client, base: &str) -> Self {
        world.aircraft(3);
        let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
        register(client, base, "ada@example.org", 7, interest).await;
        Self { full: false, told: Vec::new() }
    }

    fn turn(&mut self, world: &World) {
        self.full = !self.full;
        world.aircraft(if self.full { 8 } else { 3 });
        self.told.push(if self.full { "exceeded the high threshold" } else { "is back within the thresholds" });
    }

    /// Waits for the message of this turn. Only where `may_repeat` may one be there twice: the
    /// sender died with Telegram's answer.
    async fn is_told(&mut self, world: &World, settled: impl Future<Output = ()>, may_repeat: bool, after: &str) {
        let expected = *self.told.last().expect("a turn");
        let count = self.told.len();
        let is_there =
            |texts: &[String]| texts.last().is_some_and(|text| text.contains(expected)) && texts.len() >= count;
        world.texts(is_there).await;
        // A repetition comes before the ledger has settled.
        settled.await;
        let texts = world.texts(is_there).await;
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
    let mut turns = Turns::begin(&town.world, &town.client, &town.base).await;
    turns.turn(&town.world);
    turns.is_told(&town.world, town.settled(), false, "before any death").await;
    for (service, point) in POINTS {
        town.kill(service).await;
        town.start_with(service, &[(FAULT_POINT, point.to_owned())]).await;
        turns.turn(&town.world);
        assert_eq!(town.program(service).code().await, 128 + 9, "{service} dies at {point}");
        town.start(service).await;
        turns.is_told(&town.world, town.settled(), point == "notifier.sent-not-recorded", point).await;
    }
    town.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_killed_at_random_moments_lose_no_alert_and_repeat_none_beyond_the_promise() {
    let (seed, mut dice) = dice();
    let mut town = Town::build().await;
    let mut turns = Turns::begin(&town.world, &town.client, &town.base).await;
    let (client, users) = (town.client.clone(), format!("{}/user-manager/users", town.base));
    let somebody = |round| json!({"email": format!("{round}@example.org"), "first_name": "Ada", "last_name": "L"});
    for round in 0..20 {
        let victim = PROCESSES[dice.random_range(0..PROCESSES.len())];
        let newcomer = somebody(round);
        turns.turn(&town.world);
        let blow = async {
            // Not a wait for anything: the moment of the blow.
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..1500))).await;
            town.kill(victim).await;
            town.start(victim).await;
        };
        // Somebody registers meanwhile, and tries again until there is an answer.
        let (_, registered) = tokio::join!(blow, post(&client, &users, &newcomer));
        let after = format!("seed {seed} round {round} {victim}");
        assert_eq!(registered, 201, "{after}");
        turns.is_told(&town.world, town.settled(), victim == "notifier", &after).await;
    }
    let known: Vec<Value> = client.get(&users).send().await.expect("answered").json().await.expect("users");
    for round in 0..20 {
        let found = known.iter().filter(|user| user["email"] == somebody(round)["email"]);
        assert_eq!(found.count(), 1, "seed {seed}: the user of round {round} in {known:#?}");
    }
    town.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_and_its_private_servers_killed_at_random_moments_lose_no_alert_and_repeat_none_beyond_the_promise() {
    let (seed, mut dice) = dice();
    let mut house = House::build().await;
    let mut turns = Turns::begin(&house.world, &house.client, &house.base).await;
    // A third death within a minute would end `up`, which is another story.
    let mut deaths: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..9 {
        let drawn = ["PostgreSQL", "Kafka", "flightbell"][dice.random_range(0..3)];
        let victim = if deaths.get(drawn).is_some_and(|deaths| *deaths >= 2) { "flightbell" } else { drawn };
        turns.turn(&house.world);
        // Not a wait for anything: the moment of the blow.
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..1500))).await;
        if victim == "flightbell" {
            house.kill().await;
            house.start_again().await;
            deaths.clear();
        } else {
            house.kill_server(victim).await;
            *deaths.entry(victim).or_default() += 1;
        }
        // The sender dies with `up`; with the ledger's database it may lose Telegram's answer.
        let may_repeat = victim != "Kafka";
        let after = format!("seed {seed} round {round} {victim}");
        turns.is_told(&house.world, house.settled(), may_repeat, &after).await;
    }
    house.program.stop().await;
}
