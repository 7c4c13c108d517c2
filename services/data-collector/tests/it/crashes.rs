//! The real process, killed between two effects, and started again.

use std::{collections::BTreeSet, net::SocketAddr};

use runtime::clock::Clock;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{PARIS, Record, TestEnv, records, wait_for};

/// The contract's own topic: a process of its own takes no other.
const TOPIC: &str = "to-alert-system";

const DATA_COLLECTOR: &str = env!("CARGO_BIN_EXE_data-collector");

struct Process {
    itself: testkit::Process,
    http: SocketAddr,
}

impl Process {
    /// Starts the service, to die at `point` where one is named.
    async fn start(env: &TestEnv, point: Option<&str>) -> Self {
        let process = Self::spawn(env, point);
        let url = format!("http://{}/readyz", process.http);
        let client = testkit::http_client();
        let is_ready = async || client.get(&url).send().await.ok().filter(|answer| answer.status() == 200);
        wait_for("the process to be ready", is_ready).await;
        process
    }

    fn spawn(env: &TestEnv, point: Option<&str>) -> Self {
        let http = testkit::free_addr();
        let more = [("HTTP_ADDR".to_owned(), http.to_string())];
        let point = point.map(|point| (runtime::fault::FAULT_POINT.to_owned(), point.to_owned()));
        let environment = env.vars().into_iter().chain(more).chain(point);
        Self { itself: testkit::Process::start(DATA_COLLECTOR, &[], environment), http }
    }

    async fn post(&self, body: &Value) -> reqwest::Result<u16> {
        let sent = testkit::http_client().post(format!("http://{}/interests", self.http)).json(body).send().await?;
        Ok(sent.status().as_u16())
    }

    async fn interest(&self, email: &str) -> Uuid {
        let listed = testkit::http_client()
            .get(format!("http://{}/interests/{email}", self.http))
            .send()
            .await
            .expect("an answer");
        let listed: Value = listed.json().await.expect("JSON");
        listed["interests"][0]["id"].as_str().expect("an id").parse().expect("an id")
    }
}

async fn env() -> TestEnv {
    let env = TestEnv::on(Clock::system()).await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 7);
    env
}

fn interest() -> Value {
    json!({"email": "ada@example.org", "airport_code": "LFPG", "metric": "live", "high_value": 5})
}

async fn sent(env: &TestEnv, interest: Uuid) -> Vec<Record> {
    records(&env.kafka, TOPIC).await.into_iter().filter(|record| record.key == interest).collect()
}

async fn wait_sent(env: &TestEnv, interest: Uuid, count: usize) -> Vec<Record> {
    wait_for("records", async || {
        let sent = sent(env, interest).await;
        (sent.len() >= count).then_some(sent)
    })
    .await
}

fn event_ids(records: &[Record]) -> BTreeSet<String> {
    records.iter().filter_map(|record| record.value.as_ref()).map(|value| value["event_id"].to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_an_effect_and_its_answer_the_interest_is_there_once() {
    let env = env().await;
    let process = Process::start(&env, Some("data-collector.interest-committed-not-answered")).await;
    assert!(process.post(&interest()).await.is_err(), "no answer");
    process.itself.killed().await;
    let process = Process::start(&env, None).await;
    assert_eq!(process.post(&interest()).await.expect("an answer"), 200);
    let id = process.interest("ada@example.org").await;
    assert_eq!(wait_sent(&env, id, 1).await[0].value.as_ref().expect("a value")["flight_count"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_asking_and_storing_the_airport_is_asked_again() {
    let env = env().await;
    let process = Process::start(&env, Some("data-collector.asked-not-stored")).await;
    drop(process.post(&interest()).await);
    process.itself.killed().await;
    let process = Process::start(&env, None).await;
    let id = process.interest("ada@example.org").await;
    wait_sent(&env, id, 1).await;
    assert_eq!(env.scalar("SELECT count(*) FROM readings").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_storing_a_reading_it_still_goes_out() {
    let env = env().await;
    let process = Process::start(&env, Some("data-collector.reading-stored")).await;
    drop(process.post(&interest()).await);
    process.itself.killed().await;
    let process = Process::start(&env, None).await;
    let id = process.interest("ada@example.org").await;
    let sent = wait_sent(&env, id, 1).await;
    assert_eq!(event_ids(&sent).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_sending_an_evaluation_and_recording_it_the_same_event_comes_twice() {
    let env = env().await;
    let process = Process::start(&env, None).await;
    assert_eq!(process.post(&interest()).await.expect("an answer"), 201);
    let first = process.interest("ada@example.org").await;
    wait_sent(&env, first, 1).await;
    drop(process);
    env.person("bob@example.org");
    let process = Process::start(&env, Some("data-collector.evaluation-sent-not-recorded")).await;
    let mut other = interest();
    other["email"] = json!("bob@example.org");
    drop(process.post(&other).await);
    process.itself.killed().await;
    let process = Process::start(&env, None).await;
    let second = process.interest("bob@example.org").await;
    let sent = wait_sent(&env, second, 2).await;
    assert_eq!(event_ids(&sent).len(), 1, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_telling_a_removal_and_recording_it_it_is_told_twice() {
    let env = env().await;
    let process = Process::start(&env, Some("data-collector.removal-sent-not-recorded")).await;
    assert_eq!(process.post(&interest()).await.expect("an answer"), 201);
    let id = process.interest("ada@example.org").await;
    wait_sent(&env, id, 1).await;
    let url = format!("http://{}/interests", process.http);
    drop(testkit::http_client().delete(url).json(&interest()).send().await);
    process.itself.killed().await;
    let process = Process::start(&env, None).await;
    let sent = wait_for("two removals", async || {
        let sent = sent(&env, id).await;
        (sent.iter().filter(|record| record.value.is_none()).count() == 2).then_some(sent)
    })
    .await;
    assert!(sent.last().expect("a record").value.is_none(), "nothing follows a removal");
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_a_page_and_its_record_at_most_that_page_is_repeated() {
    let env = env().await;
    sqlx::query(
        "INSERT INTO interests
         SELECT gen_random_uuid(), gen_random_uuid(), 'user' || n || '@example.org', 'LFPG', 'live', 1, null, 1, now(), now()
         FROM generate_series(1, 12000) n",
    )
    .execute(&env.database.pool)
    .await
    .expect("interests");
    let process = Process::spawn(&env, Some("data-collector.page-sent-not-recorded:2"));
    process.itself.killed().await;
    let process = Process::start(&env, None).await;
    wait_for("the fan-out", async || (env.scalar("SELECT count(*) FROM fan_outs").await == 0).then_some(())).await;
    drop(process);
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM interests").fetch_all(&env.database.pool).await.expect("ids");
    let ids: BTreeSet<_> = ids.into_iter().collect();
    let sent: Vec<_> =
        records(&env.kafka, TOPIC).await.into_iter().filter(|record| ids.contains(&record.key)).collect();
    let readings = usize::try_from(env.scalar("SELECT count(*) FROM readings").await).expect("a count");
    assert_eq!(event_ids(&sent).len(), 12_000 * readings, "everybody, and each event once by its id");
    assert_eq!(sent.len(), 12_000 * readings + 5_000, "one page twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_process_cleanly_and_soon() {
    let env = env().await;
    let process = Process::start(&env, None).await;
    assert_eq!(process.post(&interest()).await.expect("an answer"), 201);
    process.itself.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_all_told_and_nothing_is_bound() {
    let env = env().await;
    let wrong = [("KAFKA_PARTITIONS", "none"), ("RETENTION_DAYS", "0"), ("DATABASE_URL", "")];
    let environment = env.vars().into_iter().chain(wrong.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut process = testkit::Process::start(DATA_COLLECTOR, &[], environment);
    assert_eq!(process.code().await, 2);
    let told = process.log();
    for key in ["KAFKA_PARTITIONS", "RETENTION_DAYS", "DATABASE_URL"] {
        assert!(told.contains(key), "{told}");
    }
}
