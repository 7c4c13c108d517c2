//! Requests, as many a second as are asked for, and what became of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use reqwest::{Client, Method, RequestBuilder, Response};
use runtime::error::chain_text;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    people::{PEOPLE, Speaks, URL, client, email},
    sky::AIRPORTS,
};

/// How many clients ask, each of which keeps its connections; every fourth speaks HTTP/2.
const CLIENTS: u32 = 8;

/// How long a client waits before it asks again, when a connection broke or was refused.
const WAITS: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1_000)];

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// How many were asked.
    pub asked: usize,
    /// How many were asked again, because a connection broke before an answer came, or was refused.
    pub asked_again: usize,
    /// Those that failed nevertheless, by what was seen.
    pub failures: BTreeMap<String, usize>,
    times: Vec<Duration>,
}

impl Answers {
    /// How many failed.
    pub fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    /// The time within which so many of a hundred answers came.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.asked_again += other.asked_again;
        self.times.extend(other.times);
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
    }
}

/// Requests that are being made.
pub struct Load {
    clients: JoinSet<Answers>,
    ending: CancellationToken,
}

impl Load {
    /// Asks `rate` times a second until [`Load::end`]. Each client waits for an answer before it asks again.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn begin(authority: &str, rate: u32) -> anyhow::Result<Self> {
        let ending = CancellationToken::new();
        let next = Arc::new(AtomicU64::new(0));
        let pace = Duration::from_secs(1) * CLIENTS / rate;
        // Names this run's people and keys among those of others on the same cluster.
        let run = Utc::now().timestamp_millis().to_string();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let speaks = if number % 4 == 3 { Speaks::Http2 } else { Speaks::Http1 };
            let client = client(authority, speaks)?;
            clients.spawn(ask(client, run.clone(), next.clone(), pace, ending.clone()));
        }
        Ok(Self { clients, ending })
    }

    /// Ends with the answers to what was asked.
    pub async fn end(self) -> Answers {
        self.ending.cancel();
        let mut all = Answers::default();
        for answers in self.clients.join_all().await {
            all.add(answers);
        }
        all
    }
}

async fn ask(client: Client, run: String, next: Arc<AtomicU64>, pace: Duration, ending: CancellationToken) -> Answers {
    let mut answers = Answers::default();
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = ending.cancelled() => return answers,
        }
        let number = next.fetch_add(1, Ordering::Relaxed);
        answers.asked += 1;
        let begun = Instant::now();
        let mut outcome = request(&client, &run, number).send().await;
        // Reading does no harm twice, and what changes something bears a key: a client may ask again.
        for wait in WAITS {
            if outcome.as_ref().map_or_else(reqwest::Error::is_timeout, |_| true) {
                break;
            }
            answers.asked_again += usize::from(wait == WAITS[0]);
            sleep(wait).await;
            outcome = request(&client, &run, number).send().await;
        }
        let failure = match outcome {
            Ok(response) if response.status().is_success() => response.bytes().await.err().map(broken),
            Ok(response) => Some(refusal(response).await),
            Err(error) => Some(broken(error)),
        };
        answers.times.push(begun.elapsed());
        if let Some(failure) = failure {
            *answers.failures.entry(failure).or_default() += 1;
        }
    }
}

/// A mixture of reading and writing.
fn request(client: &Client, run: &str, number: u64) -> RequestBuilder {
    let person = u32::try_from(number % u64::from(PEOPLE)).unwrap_or_default();
    let email = email(person);
    let airport = AIRPORTS[usize::try_from(person).unwrap_or_default() % AIRPORTS.len()];
    let keyed = |method, path: String| {
        client.request(method, format!("{URL}{path}")).header("Idempotency-Key", format!("load-{run}-{number}"))
    };
    match number % 8 {
        0 | 1 => client.get(format!("{URL}/user-manager/users/{email}")),
        2 | 3 => client.get(format!("{URL}/data-collector/interests/{email}")),
        4 => client.get(format!("{URL}/data-collector/readings/{airport}?metric=live&limit=20")),
        5 => keyed(Method::PATCH, format!("/user-manager/users/{email}"))
            .json(&json!({"first_name": format!("Person {number}")})),
        6 => keyed(Method::POST, "/user-manager/users".to_owned()).json(&json!({
            "email": format!("load-{run}-{number}@example.org"), "first_name": "Load", "last_name": "Test",
        })),
        _ => keyed(Method::PUT, "/data-collector/interests".to_owned()).json(&json!({
            "email": email, "airport_code": airport, "metric": "live", "high_value": crate::sky::HIGH,
        })),
    }
}

/// The status, and what the service says of it.
async fn refusal(response: Response) -> String {
    let status = response.status();
    let body: Value = response.json().await.unwrap_or_default();
    let said = body.get("detail").or_else(|| body.get("error")).or_else(|| body.get("title"));
    format!("{status} {}", said.and_then(Value::as_str).unwrap_or_default())
}

/// Why there is no answer; the same for every address.
fn broken(error: reqwest::Error) -> String {
    chain_text(&error.without_url())
}
