//! From a reading to Telegram: how long a user waits for a message.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::{
    deployment::{TestEnv, register},
    program::PATIENCE,
    table::{Table, Target, rank},
};

/// How many people watch the airport, each in a chat of their own: first one, then all at once; and how many
/// milliseconds 99 % of their messages may take.
const CROWDS: [(i64, f64); 2] = [(1, 50.0), (25, 80.0)];
/// How often the airport crosses its threshold before each crowd, about once a second. It begins and
/// ends in between.
const CROSSINGS: u32 = 100;
/// The first ones, which are not counted: connections are made.
const WARM_UP: u32 = 6;

/// What these figures need of the environment: collection each second, Telegram's limits lifted.
pub fn settings() -> Vec<(&'static str, String)> {
    let settings = [
        ("COLLECT_INTERVAL_SECONDS", "1"),
        ("TELEGRAM_MESSAGES_PER_SECOND", "0"),
        ("TELEGRAM_CHAT_MESSAGES_PER_MINUTE", "0"),
    ];
    settings.map(|(key, value)| (key, value.to_owned())).into()
}

/// Lets an airport cross its threshold again and again, and measures each message: from the reading's
/// `observed_at`, which is when OpenSky had answered, to the moment Telegram's simulator takes it.
pub async fn measure(
    what: &'static str,
    table: &mut Table,
    env: &TestEnv,
    (client, base): (&reqwest::Client, &str),
    ledger: &str,
) {
    let mut ledger = PgConnection::connect(ledger).await.expect("the ledger");
    let mut known = 0;
    env.aircraft(3);
    for (crowd, limit) in CROWDS {
        for person in known + 1..=crowd {
            let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
            register(client, base, &email(person), person, interest).await;
        }
        known = crowd;
        let begun = Utc::now();
        cross(env, crowd).await;
        let mut waits = waits(env, &mut ledger, crowd, begun).await;
        waits.sort_unstable();
        let at = |percent: usize| millis(waits[rank(waits.len(), percent)]);
        let detail = format!(
            "{} messages, a chat each for {crowd} who watch; median {:.0} ms, slowest {:.0} ms",
            waits.len(),
            at(50),
            at(100)
        );
        table.add(what, Target::Under(limit), at(99), "ms", detail);
    }
}

/// The airport crosses its threshold, and each time everybody is told before the next.
async fn cross(env: &TestEnv, crowd: i64) {
    let mut expected = env.telegram.delivered().len();
    for crossing in 0..CROSSINGS + WARM_UP {
        env.aircraft(if crossing.is_multiple_of(2) { 8 } else { 3 });
        expected += usize::try_from(crowd).expect("a number");
        env.telegram.wait_for_delivered(PATIENCE, expected).await.expect("the messages");
    }
}

/// How long each message since `begun` took, without those of the first crossings.
async fn waits(env: &TestEnv, ledger: &mut PgConnection, crowd: i64, begun: DateTime<Utc>) -> Vec<Duration> {
    let delivered = env.telegram.delivered();
    let mut waits = Vec::new();
    for person in 1..=crowd {
        // A person's alerts are sent in the order of the ledger.
        let observed: Vec<DateTime<Utc>> = sqlx::query_scalar(
            "SELECT observed_at FROM alerts WHERE email = $1 AND observed_at > $2 ORDER BY position",
        )
        .bind(email(person))
        .bind(begun)
        .fetch_all(&mut *ledger)
        .await
        .expect("the alerts");
        let to_them = delivered.iter().filter(|sent| sent.chat_id == person && sent.received_at > begun);
        let received: Vec<_> = to_them.map(|sent| sent.received_at).collect();
        assert_eq!(received.len(), observed.len(), "each alert is one message");
        let pairs = received.iter().zip(&observed).skip(WARM_UP as usize);
        waits.extend(pairs.map(|(received, observed)| (*received - *observed).to_std().expect("later")));
    }
    waits
}

fn email(person: i64) -> String {
    format!("person{person}@example.org")
}

fn millis(wait: Duration) -> f64 {
    wait.as_secs_f64() * 1000.0
}
