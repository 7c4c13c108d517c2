//! The dump of an earlier version, restored as if it had been taken a moment ago.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use serde::Deserialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::KafkaDump;

use super::partitions;

pub const DATABASES: [(&str, &str); 4] = [
    ("user_manager", "USER_MANAGER_DATABASE_URL"),
    ("data_collector", "DATA_COLLECTOR_DATABASE_URL"),
    ("alert_system", "ALERT_SYSTEM_DATABASE_URL"),
    ("notifier", "NOTIFIER_DATABASE_URL"),
];

/// Finished days move by whole days.
const DAYS: [&str; 2] = ["flights", "airport_flights"];

/// What is on servers now.
pub struct Restored {
    /// The URLs of user-manager's, data-collector's, alert-system's and notifier's database.
    pub databases: [String; 4],
    /// What the earlier version answered over HTTP, before its times were moved.
    pub answers: Vec<Value>,
    moved: Moved,
}

/// How much later everything is than it was.
#[derive(Clone, Copy)]
struct Moved {
    /// Moments.
    by: TimeDelta,
    /// Finished days and what happened on them.
    days: TimeDelta,
}

#[derive(Deserialize)]
struct TakenDump {
    taken_at: DateTime<Utc>,
    #[serde(flatten)]
    kafka: KafkaDump,
}

impl Restored {
    /// Fills new databases of the shared PostgreSQL, and a broker that is empty.
    pub async fn into(bootstrap: &str) -> Self {
        let mut databases = Vec::new();
        for _ in DATABASES {
            databases.push(testkit::empty_database().await.url);
        }
        Self::fill(bootstrap, databases.try_into().expect("four"), 3).await
    }

    /// Fills these databases and a broker, all of them empty. Topics get so many partitions.
    pub async fn fill(bootstrap: &str, databases: [String; 4], partitions: usize) -> Self {
        let mut taken: TakenDump = serde_json::from_str(&read("kafka.json")).expect("a dump");
        // A day that ended meanwhile would be collected anew, from a simulator that knows no flights of it.
        let is_early = async || Utc::now().num_seconds_from_midnight() < (24 * 60 - 5) * 60;
        testkit::wait_for("midnight to pass", Duration::from_secs(6 * 60), is_early).await;
        let now = Utc::now();
        let days = now.date_naive() - taken.taken_at.date_naive();
        // What the topics know, so that a moment is the same everywhere.
        let by = TimeDelta::milliseconds((now - taken.taken_at).num_milliseconds());
        let moved = Moved { by, days };
        for topic in &mut taken.kafka.topics {
            for record in topic.partitions.iter_mut().flatten() {
                record.timestamp += moved.by.num_milliseconds();
                let json = record.value.as_deref().and_then(|value| serde_json::from_str::<Value>(value).ok());
                // What is no JSON is a dead letter for that, and stays as it is.
                if let Some(mut json) = json.filter(Value::is_object) {
                    moved.message(&mut json);
                    record.value = Some(json.to_string());
                }
            }
        }
        let has_moved = partitions::spread(&mut taken.kafka, partitions);
        taken.kafka.restore(bootstrap).await;
        for ((name, _), url) in DATABASES.iter().zip(&databases) {
            fill_database(url, &read(&format!("{name}.sql")), moved, has_moved).await;
        }
        let answers = serde_json::from_str(&read("answers.json")).expect("answers");
        Self { databases, answers, moved }
    }

    /// What `up` is told about the databases.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, String)> {
        DATABASES.iter().zip(&self.databases).map(|((_, key), url)| (*key, url.clone()))
    }
}

impl Moved {
    /// Moves the times of the reading that a message tells of.
    fn message(self, message: &mut Value) {
        let is_live = message["metric"] == "live";
        let Some(reading) = message.get_mut("reading").and_then(Value::as_object_mut) else { return };
        for (field, value) in reading {
            let by = match field.as_str() {
                "observed_at" => self.by,
                "window_begin" | "window_end" if is_live => self.by,
                "window_begin" | "window_end" => self.days,
                _ => continue,
            };
            let time = time(value).expect("a time");
            *value = serde_json::to_value(time + by).expect("a time");
        }
    }
}

/// Whether `now` says all that `before` said, and perhaps more: more fields, more elements, times that were moved. When
/// the next collection is planned is no promise.
pub fn is_covered(before: &Value, now: &Value, restored: &Restored) -> bool {
    match (before, now) {
        (Value::Array(before), Value::Array(now)) => {
            before.iter().all(|before| now.iter().any(|now| is_covered(before, now, restored)))
        }
        (Value::Object(before), Value::Object(now)) => before.iter().all(|(field, before)| {
            field == "next_collection_at" || now.get(field).is_some_and(|now| is_covered(before, now, restored))
        }),
        _ => match (time(before), time(now)) {
            (Some(before), Some(now)) => [restored.moved.by, restored.moved.days].iter().any(|by| before + *by == now),
            _ => before == now,
        },
    }
}

fn time(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str()?.parse().ok()
}

fn read(name: &str) -> String {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/upgrade");
    std::fs::read_to_string(folder.join(name)).expect("the fixture")
}

/// Fills an empty database with what the text of a dump says.
async fn fill_database(url: &str, dump: &str, moved: Moved, has_new_offsets: bool) {
    let mut connection = PgConnection::connect(url).await.expect("connected");
    // Keys and their references come after the rows, and rows can be moved before.
    let keys = dump.find("\nALTER TABLE ONLY").expect("keys");
    run(&mut connection, &dump[..keys]).await;
    run(&mut connection, &move_times(moved)).await;
    if dump.contains("CREATE TABLE public.alerts") {
        move_contents(&mut connection, moved).await;
    }
    if has_new_offsets && dump.contains("CREATE TABLE public.bare_levels") {
        // Legacy messages have no number of their own: they are known by the offset that they had.
        run(&mut connection, "UPDATE public.bare_levels SET positions = '{}'").await;
    }
    run(&mut connection, &dump[keys..]).await;
    connection.close().await.expect("closed");
}

async fn run(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.expect("done");
}

/// Statements that move every time in a database.
fn move_times(moved: Moved) -> String {
    let interval = |by: TimeDelta| format!("interval '{} microseconds'", by.num_microseconds().expect("not too long"));
    let (by, days) = (interval(moved.by), interval(moved.days));
    let of_days = DAYS.map(|table| format!("'{table}'")).join(", ");
    format!(
        "DO $do$
         DECLARE c record;
         BEGIN
             FOR c IN SELECT table_name, column_name, data_type FROM information_schema.columns
                      WHERE table_schema = 'public' AND data_type IN ('timestamp with time zone', 'date')
             LOOP
                 EXECUTE format(
                     CASE WHEN c.data_type = 'date' THEN 'UPDATE public.%1$I SET %2$I = (%2$I + {days})::date'
                          WHEN c.table_name IN ({of_days}) THEN 'UPDATE public.%1$I SET %2$I = %2$I + {days}'
                          WHEN c.column_name IN ('window_begin', 'window_end') THEN
                              'UPDATE public.%1$I SET %2$I = %2$I + CASE metric WHEN ''live'' THEN {by} ELSE {days} END'
                          ELSE 'UPDATE public.%1$I SET %2$I = %2$I + {by}' END,
                     c.table_name, c.column_name);
             END LOOP;
         END $do$",
        by = by.replace('\'', "''"),
        days = days.replace('\'', "''"),
    )
}

/// Moves the times in alerts, which are stored as they were told.
async fn move_contents(connection: &mut PgConnection, moved: Moved) {
    let rows: Vec<(uuid::Uuid, Value)> = sqlx::query_as("SELECT event_id, content FROM public.alerts")
        .fetch_all(&mut *connection)
        .await
        .expect("alerts");
    for (event_id, mut content) in rows {
        moved.message(&mut content);
        let update = sqlx::query("UPDATE public.alerts SET content = $2 WHERE event_id = $1");
        update.bind(event_id).bind(content).execute(&mut *connection).await.expect("moved");
    }
}
