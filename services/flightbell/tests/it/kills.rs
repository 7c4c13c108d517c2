//! Processes that die by SIGKILL, at every named point between two effects and at random moments.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use runtime::{
    config::{ProcessEnv, Vars},
    fault::FAULT_POINT,
};
use serde_json::{Value, json};

use crate::{
    deployment::{Deployment, PROCESSES, TestEnv, post, register},
    up::UpInstance,
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

/// The seed that is asked for, or a new one, and a random number generator seeded with it.
fn rng() -> (u64, StdRng) {
    let asked = ProcessEnv.get(SEED).map(|seed| seed.parse().expect("a number"));
    let seed = asked.unwrap_or_else(|| rand::rng().random());
    println!("seed {seed}: set {SEED} to it for the same victims and moments");
    (seed, StdRng::seed_from_u64(seed))
}

/// Traffic that comes and goes in turn, and what the user must be told about it.
struct Alternation {
    full: bool,
    told: Vec<&'static str>,
}

impl Alternation {
    async fn begin(env: &TestEnv, client: &reqwest::Client, base: &str) -> Self {
        env.aircraft(3);
        let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
        register(client, base, "ada@example.org", 7, interest).await;
        Self { full: false, told: Vec::new() }
    }

    fn turn(&mut self, env: &TestEnv) {
        self.full = !self.full;
        env.aircraft(if self.full { 8 } else { 3 });
        self.told.push(if self.full { "exceeded the high threshold" } else { "is back within the thresholds" });
    }

    /// Waits for the message of this turn. Only where `may_repeat` may one be there twice: the
    /// sender died with Telegram's answer.
    async fn is_told(&mut self, env: &TestEnv, settled: impl Future<Output = ()>, may_repeat: bool, after: &str) {
        let expected = *self.told.last().expect("a turn");
        let count = self.told.len();
        let is_there =
            |texts: &[String]| texts.last().is_some_and(|text| text.contains(expected)) && texts.len() >= count;
        env.texts(is_there).await;
        // A repetition comes before the ledger has settled.
        settled.await;
        let texts = env.texts(is_there).await;
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
    let mut deployment = Deployment::build().await;
    let mut turns = Alternation::begin(&deployment.env, &deployment.client, &deployment.base).await;
    turns.turn(&deployment.env);
    turns.is_told(&deployment.env, deployment.settled(), false, "before any death").await;
    for (service, point) in POINTS {
        deployment.kill(service).await;
        deployment.start_with(service, &[(FAULT_POINT, point.to_owned())]).await;
        turns.turn(&deployment.env);
        assert_eq!(deployment.program(service).code().await, 128 + 9, "{service} dies at {point}");
        deployment.start(service).await;
        turns.is_told(&deployment.env, deployment.settled(), point == "notifier.sent-not-recorded", point).await;
    }
    deployment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_killed_at_random_moments_lose_no_alert_and_repeat_none_beyond_the_promise() {
    let (seed, mut rng) = rng();
    let mut deployment = Deployment::build().await;
    let mut turns = Alternation::begin(&deployment.env, &deployment.client, &deployment.base).await;
    let (client, users) = (deployment.client.clone(), format!("{}/user-manager/users", deployment.base));
    let somebody = |round| json!({"email": format!("{round}@example.org"), "first_name": "Ada", "last_name": "L"});
    for round in 0..20 {
        let victim = PROCESSES[rng.random_range(0..PROCESSES.len())];
        let newcomer = somebody(round);
        turns.turn(&deployment.env);
        let blow = async {
            // Not a wait for anything: the moment of the blow.
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..1500))).await;
            deployment.kill(victim).await;
            deployment.start(victim).await;
        };
        // A user registers meanwhile, and tries again until there is an answer.
        let (_, registered) = tokio::join!(blow, post(&client, &users, &newcomer));
        let after = format!("seed {seed} round {round} {victim}");
        assert_eq!(registered, 201, "{after}");
        turns.is_told(&deployment.env, deployment.settled(), victim == "notifier", &after).await;
    }
    let known: Vec<Value> = client.get(&users).send().await.expect("answered").json().await.expect("users");
    for round in 0..20 {
        let found = known.iter().filter(|user| user["email"] == somebody(round)["email"]);
        assert_eq!(found.count(), 1, "seed {seed}: the user of round {round} in {known:#?}");
    }
    deployment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_and_its_private_servers_killed_at_random_moments_lose_no_alert_and_repeat_none_beyond_the_promise() {
    let (seed, mut rng) = rng();
    let mut instance = UpInstance::build().await;
    let mut turns = Alternation::begin(&instance.env, &instance.client, &instance.base).await;
    // A third death within a minute would end `up`, which is another story.
    let mut deaths: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..9 {
        let drawn = ["PostgreSQL", "Kafka", "flightbell"][rng.random_range(0..3)];
        let victim = if deaths.get(drawn).is_some_and(|deaths| *deaths >= 2) { "flightbell" } else { drawn };
        turns.turn(&instance.env);
        // Not a wait for anything: the moment of the blow.
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..1500))).await;
        if victim == "flightbell" {
            instance.kill().await;
            instance.start_again().await;
            deaths.clear();
        } else {
            instance.kill_server(victim).await;
            *deaths.entry(victim).or_default() += 1;
        }
        // The sender dies with `up`; with the ledger's database it may lose Telegram's answer.
        let may_repeat = victim != "Kafka";
        let after = format!("seed {seed} round {round} {victim}");
        turns.is_told(&instance.env, instance.settled(), may_repeat, &after).await;
    }
    instance.program.stop().await;
}
