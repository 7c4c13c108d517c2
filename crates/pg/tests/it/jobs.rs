//! Jobs on a real PostgreSQL: what is promised of order, repetition and failure.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::anyhow;
use pg::{
    Database, Listener,
    jobs::{BatchHandler, Failure, Handler, Job, Kind, NewJob, Runner, Settings},
};
use runtime::{ServiceRuntime, backoff::Backoff, clock::Clock, periodic, trace::RequestContext};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{PgConnection, migrate::Migrator};
use testkit::wait_for;
use tokio_util::sync::CancellationToken;

const TABLE: &str = include_str!("../../src/jobs/table.sql");
const PATIENCE: Duration = Duration::from_secs(20);

const PARCEL: Kind<Value> = Kind::new("parcel");
const LETTER: Kind<Value> = Kind::new("letter");
const REPORT: Kind<Value> = Kind::new("report").deduplicated();

/// What was done, by the jobs' keys, in its order.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<Vec<String>>>);

impl Done {
    fn add(&self, key: &str) {
        self.0.lock().expect("no panic").push(key.to_owned());
    }

    fn keys(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }

    fn sorted(&self) -> Vec<String> {
        let mut keys = self.keys();
        keys.sort();
        keys
    }

    async fn reaches(&self, count: usize) {
        wait_for(&format!("{count} jobs"), PATIENCE, async || self.keys().len() >= count).await;
    }
}

/// Does jobs one by one by a function.
struct Each<F>(F);

impl<F, Fut> Handler for Each<F>
where
    F: Fn(Job<Value>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    type Payload = Value;

    async fn handle(&self, job: &Job<Value>) -> Result<(), Failure> {
        (self.0)(job.clone()).await
    }
}

/// Notes each key in the table `effects`, in the transaction; what `verdict` refuses fails the batch.
struct Notes<F> {
    done: Done,
    verdict: F,
}

impl<F> BatchHandler for Notes<F>
where
    F: Fn(&Job<Value>) -> Result<(), Failure> + Send + Sync + 'static,
{
    type Payload = Value;

    async fn handle(&self, connection: &mut PgConnection, jobs: &[Job<Value>]) -> Result<Vec<(i64, Failure)>, Failure> {
        for job in jobs {
            sqlx::query("INSERT INTO effects VALUES ($1)").bind(&job.key).execute(&mut *connection).await?;
        }
        for job in jobs {
            (self.verdict)(job)?;
        }
        jobs.iter().for_each(|job| self.done.add(&job.key));
        Ok(Vec::new())
    }
}

struct Replica {
    runtime: ServiceRuntime,
    runner: Runner,
}

impl Replica {
    async fn start(url: &str) -> Self {
        let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
        let settings = Database::parse(&SecretString::from(url.to_owned())).expect("a URL");
        let pools = pg::connect(&runtime, &settings, &Migrator::DEFAULT).await.expect("connected");
        let runner = Runner::new(&runtime, pools.background).expect("metrics");
        runtime.tasks.spawn("notifications", runner.listen(Listener::default()).run(runtime.clone(), settings));
        Self { runtime, runner }
    }

    async fn stop(&self) {
        self.runtime.tasks.stopping().cancel();
        self.runtime.tasks.join().await.expect("a clean stop");
    }

    fn metrics(&self) -> String {
        runtime::metrics::render(std::iter::once(&self.runtime.registry)).expect("metrics")
    }
}

async fn database() -> testkit::Database {
    let database = testkit::empty_database().await;
    sqlx::raw_sql(TABLE).execute(&database.pool).await.expect("the table");
    sqlx::raw_sql("CREATE TABLE effects (key text)").execute(&database.pool).await.expect("a table");
    database
}

async fn enqueue(database: &testkit::Database, kind: Kind<Value>, keys: &[&str]) {
    let jobs: Vec<_> = keys.iter().map(|key| NewJob::new(*key, json!({"key": key}))).collect();
    let mut transaction = database.pool.begin().await.expect("a transaction");
    kind.enqueue(&mut transaction, &jobs, &RequestContext::none()).await.expect("enqueued");
    transaction.commit().await.expect("committed");
}

async fn count(database: &testkit::Database, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&database.pool).await.expect("a count")
}

async fn nothing_waits(database: &testkit::Database) {
    let waiting = async || count(database, "SELECT count(*) FROM jobs WHERE settled_at IS NULL").await == 0;
    wait_for("every job to be settled", PATIENCE, waiting).await;
}

fn quick() -> Settings {
    let short = Backoff::new(Duration::from_millis(20), Duration::from_millis(100));
    Settings { pauses: short, retries: short, permanent_retries: short, ..Settings::default() }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:03}")).collect()
}

fn as_keys(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_jobs_and_each_is_done_once() {
    let (database, done, keys) = (database().await, Done::default(), numbered(200));
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let replica = Replica::start(&database.url).await;
        let each = done.clone();
        replica.runner.spawn_each(
            PARCEL,
            quick(),
            Each(move |job: Job<Value>| {
                each.add(&job.key);
                async { Ok(()) }
            }),
        );
        let notes = Notes { done: done.clone(), verdict: |_: &Job<Value>| Ok(()) };
        replica.runner.spawn_batches(LETTER, Settings { batch: 10, ..quick() }, notes);
        replicas.push(replica);
    }
    for part in keys.chunks(20) {
        enqueue(&database, PARCEL, &as_keys(part)).await;
        enqueue(&database, LETTER, &as_keys(part)).await;
    }
    nothing_waits(&database).await;
    let twice: Vec<_> = keys.iter().flat_map(|key| [key.clone(), key.clone()]).collect();
    assert_eq!(done.sorted(), twice, "each key once by each kind");
    assert_eq!(count(&database, "SELECT count(DISTINCT key) FROM effects").await, 200);
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_as_soon_as_its_transaction_is_committed_and_never_without() {
    let (database, done) = (database().await, Done::default());
    let replica = Replica::start(&database.url).await;
    let each = done.clone();
    replica.runner.spawn_each(
        PARCEL,
        quick(),
        Each(move |job: Job<Value>| {
            each.add(&job.key);
            async { Ok(()) }
        }),
    );
    // Once it has heard something, it listens.
    enqueue(&database, PARCEL, &["first"]).await;
    done.reaches(1).await;
    let mut transaction = database.pool.begin().await.expect("a transaction");
    PARCEL
        .enqueue(&mut transaction, &[NewJob::new("undone", json!({}))], &RequestContext::none())
        .await
        .expect("enqueued");
    transaction.rollback().await.expect("undone");
    let begun = Instant::now();
    for number in 0..10 {
        enqueue(&database, PARCEL, &["next"]).await;
        done.reaches(2 + number).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "sooner than by looking: {:?}", begun.elapsed());
    assert!(!done.keys().contains(&"undone".to_owned()));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_waits_for_its_key_follows_earlier_jobs_of_other_kinds() {
    let (database, done) = (database().await, Done::default());
    let replica = Replica::start(&database.url).await;
    let open = Arc::new(AtomicBool::new(false));
    let (letters, may) = (done.clone(), open.clone());
    replica.runner.spawn_each(
        LETTER,
        Settings { wakes: &["parcel"], ..quick() },
        Each(move |job: Job<Value>| {
            let is_open = may.load(Ordering::SeqCst);
            if is_open {
                letters.add(&format!("letter {}", job.key));
            }
            async move { if is_open { Ok(()) } else { Err(Failure::Transient(anyhow!("not yet"))) } }
        }),
    );
    let parcels = done.clone();
    replica.runner.spawn_each(
        PARCEL,
        Settings { waits_for_key: true, ..quick() },
        Each(move |job: Job<Value>| {
            parcels.add(&format!("parcel {}", job.key));
            async { Ok(()) }
        }),
    );
    enqueue(&database, LETTER, &["a"]).await;
    enqueue(&database, PARCEL, &["a", "b", "b"]).await;
    enqueue(&database, LETTER, &["b"]).await;
    done.reaches(2).await;
    wait_for("a letter to be tried again", PATIENCE, async || {
        count(&database, "SELECT count(*) FROM jobs WHERE kind = 'letter' AND attempts >= 2").await > 0
    })
    .await;
    assert_eq!(done.keys(), ["parcel b", "parcel b"], "a's waits for a's letter, and b's for none");
    open.store(true, Ordering::SeqCst);
    nothing_waits(&database).await;
    let place = |what: &str| done.keys().iter().position(|key| key == what);
    assert!(place("letter a") < place("parcel a"), "{:?}", done.keys());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_at_fault_is_found_and_set_aside_and_leaves_no_effect() {
    let (database, done, keys) = (database().await, Done::default(), numbered(100));
    enqueue(&database, LETTER, &as_keys(&keys)).await;
    sqlx::query("UPDATE jobs SET payload = '7' WHERE key = '050'").execute(&database.pool).await.expect("changed");
    let replica = Replica::start(&database.url).await;
    let verdict = |job: &Job<Value>| match job.key.as_str() {
        "013" => Err(Failure::Permanent(anyhow!("it is poison"))),
        _ => Ok(()),
    };
    replica.runner.spawn_batches(LETTER, Settings { batch: 64, ..quick() }, Notes { done: done.clone(), verdict });
    wait_for("the others, and attempts at that one", PATIENCE, async || {
        count(&database, "SELECT count(*) FROM jobs WHERE attempts >= 2").await == 1
    })
    .await;
    done.reaches(99).await;
    assert_eq!(count(&database, "SELECT count(*) FROM jobs WHERE key <> '013'").await, 0);
    assert_eq!(count(&database, "SELECT count(*) FROM effects WHERE key = '013'").await, 0);
    assert_eq!(count(&database, "SELECT count(*) FROM effects").await, 99, "nothing was repeated");
    // Others do not wait for it.
    enqueue(&database, LETTER, &["later"]).await;
    done.reaches(100).await;
    assert!(replica.metrics().contains("jobs_finished_total{kind=\"letter\",outcome=\"set_aside\"}"));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_fails_its_job_and_neither_the_others_nor_the_process() {
    let (database, done) = (database().await, Done::default());
    let replica = Replica::start(&database.url).await;
    let each = done.clone();
    replica.runner.spawn_each(
        PARCEL,
        quick(),
        Each(move |job: Job<Value>| {
            assert_ne!(job.key, "poison");
            each.add(&job.key);
            async { Ok(()) }
        }),
    );
    let verdict = |job: &Job<Value>| {
        assert_ne!(job.key, "poison");
        Ok(())
    };
    replica.runner.spawn_batches(LETTER, quick(), Notes { done: done.clone(), verdict });
    for kind in [PARCEL, LETTER] {
        enqueue(&database, kind, &["a", "poison", "b"]).await;
    }
    wait_for("both to be tried again", PATIENCE, async || {
        count(&database, "SELECT count(*) FROM jobs WHERE attempts >= 2").await == 2
    })
    .await;
    assert_eq!(done.sorted(), ["a", "a", "b", "b"]);
    assert_eq!(count(&database, "SELECT count(*) FROM effects").await, 2);
    assert_eq!(count(&database, "SELECT count(*) FROM jobs WHERE key <> 'poison'").await, 0);
    replica.stop().await;
}

/// What a newer version may carry in a job.
#[derive(serde::Deserialize)]
struct Named {
    name: String,
}

struct Names(Done);

impl BatchHandler for Names {
    type Payload = Named;

    async fn handle(&self, _: &mut PgConnection, jobs: &[Job<Named>]) -> Result<Vec<(i64, Failure)>, Failure> {
        jobs.iter().for_each(|job| self.0.add(&job.payload.name));
        let failed = jobs.iter().filter(|job| job.payload.name == "odd");
        Ok(failed.map(|job| (job.id, Failure::Permanent(anyhow!("it is odd")))).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_read_or_fails_by_itself_is_set_aside_and_the_others_of_its_batch_are_done() {
    let (database, done) = (database().await, Done::default());
    let kind: Kind<Value> = Kind::new("named");
    let jobs = [json!({"name": "one"}), json!({"title": "two"}), json!({"name": "odd"}), json!({"name": "four"})];
    let jobs: Vec<_> = jobs.into_iter().enumerate().map(|(n, payload)| NewJob::new(n.to_string(), payload)).collect();
    kind.enqueue(&mut database.pool.acquire().await.expect("one"), &jobs, &RequestContext::none())
        .await
        .expect("enqueued");
    let replica = Replica::start(&database.url).await;
    let patient = Backoff::new(Duration::from_secs(60), Duration::from_secs(60));
    let settings = Settings { permanent_retries: patient, ..quick() };
    replica.runner.spawn_batches(Kind::<Named>::new("named"), settings, Names(done.clone()));
    wait_for("two to be settled", PATIENCE, async || count(&database, "SELECT count(*) FROM jobs").await == 2).await;
    assert_eq!(done.keys(), ["one", "odd", "four"]);
    assert_eq!(count(&database, "SELECT count(*) FROM jobs WHERE attempts = 1 AND due_at > now()").await, 2);
    replica.stop().await;
}

#[test]
fn what_a_replica_claimed_that_died_is_done_by_another() {
    let dying = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let living = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let settings = || Settings { limit: Duration::from_millis(500), ..quick() };
    let database = living.block_on(database());
    let begun = Done::default();
    let never = begun.clone();
    let url = database.url.clone();
    dying.block_on(async {
        let replica = Replica::start(&url).await;
        replica.runner.spawn_each(
            PARCEL,
            Settings { limit: Duration::from_secs(60), ..settings() },
            Each(move |job: Job<Value>| {
                never.add(&job.key);
                std::future::pending()
            }),
        );
    });
    living.block_on(async {
        enqueue(&database, PARCEL, &["a"]).await;
        begun.reaches(1).await;
        // Its claim would last for 65 s.
        let claimed = "UPDATE jobs SET due_at = now() + interval '1 s' WHERE claimed_by IS NOT NULL";
        assert_eq!(sqlx::query(claimed).execute(&database.pool).await.expect("claimed").rows_affected(), 1);
    });
    dying.shutdown_background();
    living.block_on(async {
        let (replica, done) = (Replica::start(&database.url).await, Done::default());
        let each = done.clone();
        replica.runner.spawn_each(
            PARCEL,
            settings(),
            Each(move |job: Job<Value>| {
                each.add(&format!("{} after {}", job.key, job.failures));
                async { Ok(()) }
            }),
        );
        done.reaches(1).await;
        nothing_waits(&database).await;
        assert_eq!(done.keys(), ["a after 1"]);
        replica.stop().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_dependency_is_away_one_job_at_a_time_asks_for_it_and_none_is_lost() {
    let (database, done, keys) = (database().await, Done::default(), numbered(40));
    enqueue(&database, PARCEL, &as_keys(&keys)).await;
    let replica = Replica::start(&database.url).await;
    let (away, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let (each, is_away, asks) = (done.clone(), away.clone(), asked.clone());
    let pauses = Backoff::new(Duration::from_millis(200), Duration::from_millis(200));
    replica.runner.spawn_each(
        PARCEL,
        Settings { batch: 8, pauses, ..quick() },
        Each(move |job: Job<Value>| {
            let fails = is_away.load(Ordering::SeqCst);
            if fails {
                asks.lock().expect("no panic").push(Instant::now());
            } else {
                each.add(&job.key);
            }
            async move { if fails { Err(Failure::Unavailable(anyhow!("away"))) } else { Ok(()) } }
        }),
    );
    wait_for("a few calls", PATIENCE, async || asked.lock().expect("no panic").len() >= 12).await;
    // Notifications do not hurry it.
    enqueue(&database, PARCEL, &["x", "y", "z"]).await;
    let asked = asked.lock().expect("no panic").clone();
    for pair in asked[7..].windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(90), "{:?}", pair[1] - pair[0]);
    }
    away.store(false, Ordering::SeqCst);
    nothing_waits(&database).await;
    assert_eq!(done.keys().len(), 43);
    assert!(replica.metrics().contains("jobs_finished_total{kind=\"parcel\",outcome=\"unavailable\"}"));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_dependency_is_away_is_undone_and_counts_against_no_job() {
    let (database, done) = (database().await, Done::default());
    let replica = Replica::start(&database.url).await;
    let tries = Arc::new(Mutex::new(0));
    let counted = tries.clone();
    let verdict = move |_: &Job<Value>| {
        let mut tries = counted.lock().expect("no panic");
        *tries += 1;
        if *tries <= 3 { Err(Failure::Unavailable(anyhow!("away"))) } else { Ok(()) }
    };
    replica.runner.spawn_batches(LETTER, quick(), Notes { done: done.clone(), verdict });
    enqueue(&database, LETTER, &["a", "b"]).await;
    nothing_waits(&database).await;
    assert_eq!(done.sorted(), ["a", "b"]);
    assert_eq!(count(&database, "SELECT count(*) FROM effects").await, 2);
    assert!(!replica.metrics().contains("outcome=\"set_aside\""), "{}", replica.metrics());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deduplicated_job_that_is_renewed_while_it_is_done_is_done_once_more() {
    let (database, done) = (database().await, Done::default());
    let replica = Replica::start(&database.url).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (each, passes) = (done.clone(), gate.clone());
    replica.runner.spawn_each(
        REPORT,
        quick(),
        Each(move |job: Job<Value>| {
            each.add(&job.payload.to_string());
            let passes = passes.clone();
            async move {
                passes.acquire().await.expect("open").forget();
                Ok(())
            }
        }),
    );
    let report = async |versions: &[i32]| {
        let jobs: Vec<_> = versions.iter().map(|version| NewJob::new("ada", json!(version))).collect();
        let mut connection = database.pool.acquire().await.expect("a connection");
        REPORT.enqueue(&mut connection, &jobs, &RequestContext::none()).await.expect("enqueued");
    };
    report(&[1]).await;
    done.reaches(1).await;
    report(&[2, 3]).await;
    report(&[4]).await;
    assert_eq!(count(&database, "SELECT count(*) FROM jobs").await, 1);
    gate.add_permits(10);
    nothing_waits(&database).await;
    let keys = done.keys();
    assert_eq!((keys.first().map(String::as_str), keys.last().map(String::as_str)), (Some("1"), Some("4")));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_from_a_clock_that_was_ahead_hold_nothing_up() {
    let (database, done) = (database().await, Done::default());
    enqueue(&database, PARCEL, &["fresh", "failed", "claimed"]).await;
    let ahead = "UPDATE jobs SET due_at = now() + interval '3 years', created_at = now() + interval '3 years',
                 attempts = CASE key WHEN 'fresh' THEN 0 ELSE 1 END,
                 claimed_by = CASE key WHEN 'claimed' THEN gen_random_uuid() END";
    sqlx::query(ahead).execute(&database.pool).await.expect("ahead");
    let replica = Replica::start(&database.url).await;
    let each = done.clone();
    replica.runner.spawn_each(
        PARCEL,
        quick(),
        Each(move |job: Job<Value>| {
            each.add(&job.key);
            async { Ok(()) }
        }),
    );
    nothing_waits(&database).await;
    assert_eq!(done.sorted(), ["claimed", "failed", "fresh"]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_jobs_are_kept_without_their_payload_for_as_long_as_asked_and_the_waiting_ones_are_counted() {
    let (database, done) = (database().await, Done::default());
    let replica = Replica::start(&database.url).await;
    let each = done.clone();
    let settings = Settings { kept_for: Some(Duration::from_secs(3600)), ..quick() };
    replica.runner.spawn_each(
        PARCEL,
        settings,
        Each(move |job: Job<Value>| {
            each.add(&job.key);
            async { Ok(()) }
        }),
    );
    enqueue(&database, PARCEL, &["old", "new", "ahead"]).await;
    nothing_waits(&database).await;
    assert_eq!(count(&database, "SELECT count(*) FROM jobs WHERE payload IS NULL").await, 3);
    let aged = "UPDATE jobs SET settled_at = now() + CASE key WHEN 'old' THEN interval '-2 hours'
                WHEN 'ahead' THEN interval '3 years' ELSE interval '0' END";
    sqlx::query(aged).execute(&database.pool).await.expect("aged");
    sqlx::query(
        "INSERT INTO jobs (kind, key, payload, attempts, due_at) VALUES
                 ('parcel', 'waiting', '{}', 1, now() + interval '10 s'), ('unknown', 'x', '{}', 0, now())",
    )
    .execute(&database.pool)
    .await
    .expect("waiting");
    periodic::spawn(&replica.runtime, replica.runner.upkeep());
    wait_for("the old one to go", PATIENCE, async || {
        let left = "SELECT count(*) FROM jobs WHERE settled_at <= now()";
        count(&database, left).await == 2
    })
    .await;
    wait_for("a count", PATIENCE, async || replica.metrics().contains("jobs_waiting{kind=\"parcel\"} 1")).await;
    assert!(!replica.metrics().contains("unknown"), "labels are from a closed set");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_higher_priority_begin_first_and_their_contexts_come_with_them() {
    let (database, done) = (database().await, Done::default());
    let context = RequestContext { request_id: Some("req-1".to_owned()), traceparent: None };
    let priorities = [("low", -1), ("first", 0), ("second", 0), ("high", 5)];
    let jobs: Vec<_> =
        priorities.map(|(key, priority)| NewJob { priority, ..NewJob::new(key, json!(null)) }).into_iter().collect();
    let mut connection = database.pool.acquire().await.expect("a connection");
    PARCEL.enqueue(&mut connection, &jobs, &context).await.expect("enqueued");
    let replica = Replica::start(&database.url).await;
    let (each, contexts) = (done.clone(), Arc::new(Mutex::new(BTreeMap::new())));
    let seen = contexts.clone();
    replica.runner.spawn_each(
        PARCEL,
        Settings { batch: 1, ..quick() },
        Each(move |job: Job<Value>| {
            each.add(&job.key);
            seen.lock().expect("no panic").insert(job.key, job.context);
            async { Ok(()) }
        }),
    );
    nothing_waits(&database).await;
    assert_eq!(done.keys(), ["high", "first", "second", "low"]);
    assert!(contexts.lock().expect("no panic").values().all(|carried| *carried == context));
    replica.stop().await;
}

/// Jobs of other kinds, and of this one that were settled long ago.
const MANY: &str = "INSERT INTO jobs (kind, key, payload) SELECT 'other', n, '{}' FROM generate_series(1, 20000) n;
                    INSERT INTO jobs (kind, key, settled_at) SELECT kind, n, now() FROM generate_series(1, 20000) n,
                        unnest(ARRAY['parcel', 'letter']) kind;
                    ANALYZE";

/// What was looked at in the table, once the sessions that did have ended.
async fn looked_at(database: &testkit::Database) -> (i64, i64) {
    let sessions = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'test'";
    wait_for("the replica's sessions to end", PATIENCE, async || count(database, sessions).await == 0).await;
    let rows = count(database, "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'jobs'").await;
    let entries =
        count(database, "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'jobs'").await;
    (rows, entries)
}

#[tokio::test]
async fn a_claim_looks_neither_at_other_kinds_nor_at_what_is_settled() {
    let database = database().await;
    sqlx::raw_sql(MANY).execute(&database.pool).await.expect("many jobs");
    let before = looked_at(&database).await;
    let done = Done::default();
    let replica = Replica::start(&database.url).await;
    let settings = Settings { waits_for_key: true, kept_for: Some(PATIENCE), ..Settings::default() };
    let told = done.clone();
    let parcels = Each(move |job: Job<Value>| {
        told.add(&job.key);
        async { Ok(()) }
    });
    replica.runner.spawn_each(PARCEL, settings.clone(), parcels);
    replica.runner.spawn_batches(LETTER, settings, Notes { done: done.clone(), verdict: |_: &Job<Value>| Ok(()) });
    for round in 0..10 {
        let keys: Vec<_> = (0..4).map(|number| format!("{round}-{number}")).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        enqueue(&database, PARCEL, &keys).await;
        enqueue(&database, LETTER, &keys).await;
        // One after the other, so that plans are made, and kept, for statements that were asked often.
        done.reaches(8 * (round + 1)).await;
    }
    replica.stop().await;
    drop(replica);
    let after = looked_at(&database).await;
    let (rows, entries) = (after.0 - before.0, after.1 - before.1);
    assert_eq!(rows, 0, "rows were read one after the other");
    assert!(0 < entries && entries < 10_000, "{entries} entries of indices were looked at for 80 jobs");
}
