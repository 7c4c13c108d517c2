use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pg::{
    Database,
    lease::{FenceError, LEASE, LeaseTerm, run_as_leader},
};
use runtime::{ServiceRuntime, clock::Clock};
use secrecy::SecretString;
use sqlx::PgPool;
use testkit::{Proxy, wait_for};
use tokio_util::sync::CancellationToken;

const TABLE: &str = "CREATE TABLE leases (name text PRIMARY KEY, holder uuid NOT NULL, epoch bigint NOT NULL, \
                     expires_at timestamptz NOT NULL)";

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

struct Candidate {
    stopping: CancellationToken,
    term: Arc<Mutex<Option<LeaseTerm>>>,
}

/// Says that a candidate leads no more, when dropped.
struct Leading(Arc<Mutex<Option<LeaseTerm>>>);

impl Drop for Leading {
    fn drop(&mut self) {
        *self.0.lock().expect("no panic") = None;
    }
}

impl Candidate {
    fn start(url: &str) -> Self {
        let stopping = CancellationToken::new();
        let runtime = ServiceRuntime::new("test", stopping.clone(), Clock::system());
        let database = Database::parse(&SecretString::from(url.to_owned())).expect("a URL");
        let term: Arc<Mutex<Option<LeaseTerm>>> = Arc::default();
        let (told, ending) = (term.clone(), stopping.clone());
        let work = move |term: LeaseTerm| {
            let (told, ending) = (told.clone(), ending.clone());
            async move {
                *told.lock().expect("no panic") = Some(term);
                // Also when this work is dropped.
                let _leading = Leading(told);
                ending.cancelled().await;
                Ok(())
            }
        };
        runtime.tasks.spawn("candidate", run_as_leader(runtime.clone(), database, "sending", work));
        Self { stopping, term }
    }

    fn term(&self) -> Option<LeaseTerm> {
        self.term.lock().expect("no panic").clone()
    }
}

async fn database() -> testkit::Database {
    let database = testkit::empty_database().await;
    sqlx::query(TABLE).execute(&database.pool).await.expect("the table");
    database
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_follows_at_once_when_it_stops() {
    let testkit::Database { url, pool } = database().await;
    let first = Candidate::start(&url);
    wait_for("the first leads", PATIENCE, async || first.term().is_some()).await;
    let second = Candidate::start(&url);
    let old = first.term().expect("leads");
    assert!(second.term().is_none());

    first.stopping.cancel();
    // The lease is given back, so the next leader need not wait until it runs out.
    wait_for("the second leads", LEASE, async || second.term().is_some()).await;
    let new = second.term().expect("leads");
    assert!(new.epoch > old.epoch);

    let mut connection = pool.acquire().await.expect("a connection");
    assert!(matches!(old.fence(&mut connection).await, Err(FenceError::Deposed)));
    new.fence(&mut connection).await.expect("the leader's writes are taken");
}

#[tokio::test]
async fn a_leader_that_lost_its_lease_stops() {
    let testkit::Database { url, pool } = database().await;
    let candidate = Candidate::start(&url);
    wait_for("it leads", PATIENCE, async || candidate.term().is_some()).await;
    let old = candidate.term().expect("leads");
    let taken = "UPDATE leases SET holder = gen_random_uuid(), epoch = epoch + 1, expires_at = now() - interval '1 s'";
    sqlx::query(taken).execute(&pool).await.expect("taken over");
    let leads_anew = async || candidate.term().is_some_and(|term| term.epoch > old.epoch);
    wait_for("it noticed, and campaigned again", PATIENCE, leads_anew).await;
}

/// Whether the lease still runs, by the database's clock.
async fn lease_runs(pool: &PgPool) -> bool {
    sqlx::query_scalar("SELECT expires_at > clock_timestamp() FROM leases").fetch_one(pool).await.expect("a lease")
}

#[tokio::test]
async fn a_leader_that_faces_a_silent_database_stops_before_its_lease_ends() {
    let database = database().await;
    let wire = Proxy::to_postgres().await;
    let candidate = Candidate::start(&database.url_at(wire.addr()));
    wait_for("it leads", PATIENCE, async || candidate.term().is_some()).await;
    wire.freeze();
    wait_for("it stops", PATIENCE, async || candidate.term().is_none()).await;
    assert!(lease_runs(&database.pool).await, "it led on after its lease had ended");
    wire.heal();
    wait_for("it leads again", PATIENCE, async || candidate.term().is_some()).await;
}

#[tokio::test]
async fn a_renewal_passes_while_the_terms_own_transaction_is_open() {
    let database = database().await;
    let candidate = Candidate::start(&database.url);
    wait_for("it leads", PATIENCE, async || candidate.term().is_some()).await;
    let term = candidate.term().expect("leads");
    let mut transaction = database.pool.begin().await.expect("a transaction");
    term.fence(&mut transaction).await.expect("it leads");
    let until: String =
        sqlx::query_scalar("SELECT expires_at::text FROM leases").fetch_one(&database.pool).await.expect("a lease");
    let outlived = async || {
        let asked = sqlx::query_scalar::<_, bool>("SELECT clock_timestamp() > $1::timestamptz").bind(&until);
        asked.fetch_one(&database.pool).await.expect("a time")
    };
    wait_for("the lease would have ended", PATIENCE, outlived).await;
    assert!(lease_runs(&database.pool).await);
    assert_eq!(candidate.term().map(|term| term.epoch), Some(term.epoch));
    transaction.commit().await.expect("the leader's write is taken");
}

/// Whether a candidate waits for the lease's row.
async fn rival_waits(pool: &PgPool) -> bool {
    let asked = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                 AND wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE')";
    sqlx::query_scalar(asked).fetch_one(pool).await.expect("an answer")
}

#[tokio::test]
async fn a_lease_that_is_renewed_while_a_rival_waits_for_it_stays_with_its_holder() {
    let database = database().await;
    let expired = "INSERT INTO leases VALUES ('sending', gen_random_uuid(), 7, now() - interval '1 s')";
    sqlx::query(expired).execute(&database.pool).await.expect("a lease");
    let mut transaction = database.pool.begin().await.expect("a transaction");
    let held = sqlx::query("SELECT epoch FROM leases FOR KEY SHARE").execute(&mut *transaction).await;
    held.expect("the transaction of a term");
    let rival = Candidate::start(&database.url);
    wait_for("the rival waits for the lock", PATIENCE, async || rival_waits(&database.pool).await).await;

    let renewed = "UPDATE leases SET expires_at = clock_timestamp() + interval '6 s'";
    sqlx::query(renewed).execute(&database.pool).await.expect("renewed");
    transaction.commit().await.expect("the term's write is taken");
    let all_rest = async || {
        let asked = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                     AND pid <> pg_backend_pid() AND state <> 'idle')";
        sqlx::query_scalar::<_, bool>(asked).fetch_one(&database.pool).await.expect("an answer")
    };
    wait_for("the rival's transaction has ended", PATIENCE, all_rest).await;
    let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM leases").fetch_one(&database.pool).await.expect("a lease");
    assert_eq!((epoch, rival.term().is_none()), (7, true), "it was taken from a leader that was well");
}

#[tokio::test]
async fn a_rival_waits_for_the_transactions_of_the_term_before() {
    let database = database().await;
    let wire = Proxy::to_postgres().await;
    let deposed = Candidate::start(&database.url_at(wire.addr()));
    wait_for("it leads", PATIENCE, async || deposed.term().is_some()).await;
    let old = deposed.term().expect("leads");
    let mut transaction = database.pool.begin().await.expect("a transaction");
    old.fence(&mut transaction).await.expect("it leads");
    wire.freeze();
    wait_for("its lease has ended", PATIENCE, async || !lease_runs(&database.pool).await).await;

    let rival = Candidate::start(&database.url);
    wait_for("the rival waits for the lock", PATIENCE, async || rival_waits(&database.pool).await).await;
    assert!(rival.term().is_none());
    // Another transaction of the old term may still begin, and is part of it.
    let mut another = database.pool.begin().await.expect("a transaction");
    old.fence(&mut another).await.expect("nobody leads since");
    another.commit().await.expect("taken");
    assert!(rival.term().is_none());
    transaction.commit().await.expect("the old term's write is taken");
    wait_for("the rival leads", PATIENCE, async || rival.term().is_some()).await;
    let mut late = database.pool.begin().await.expect("a transaction");
    assert!(matches!(old.fence(&mut late).await, Err(FenceError::Deposed)));
}

#[tokio::test]
async fn a_leader_whose_connection_breaks_leads_again_at_once() {
    let database = database().await;
    let wire = Proxy::to_postgres().await;
    let candidate = Candidate::start(&database.url_at(wire.addr()));
    wait_for("it leads", PATIENCE, async || candidate.term().is_some()).await;
    let epoch = candidate.term().expect("leads").epoch;
    wire.cut();
    wait_for("it stops", PATIENCE, async || candidate.term().is_none()).await;
    wire.heal();
    let again = async || candidate.term().is_some_and(|term| term.epoch > epoch);
    wait_for("it leads again while its old lease still runs", LEASE, again).await;
}

#[tokio::test]
async fn a_lease_from_the_future_of_a_clock_that_stepped_back_is_free() {
    let database = database().await;
    let future = "INSERT INTO leases VALUES ('sending', gen_random_uuid(), 7, now() + interval '3 hours')";
    sqlx::query(future).execute(&database.pool).await.expect("a lease");
    let candidate = Candidate::start(&database.url);
    wait_for("it leads", PATIENCE, async || candidate.term().is_some_and(|term| term.epoch == 8)).await;
    assert!(lease_runs(&database.pool).await);
}
