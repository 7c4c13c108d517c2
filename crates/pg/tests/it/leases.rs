use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use pg::{
    Database,
    lease::{FenceError, LEASE, LeaseTerm, run_as_leader, spawn_periodic},
};
use runtime::{ServiceRuntime, clock::Clock, periodic::Periodic};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection, PgPool};
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

/// Whether this term's writes are taken.
async fn is_taken(pool: &PgPool, term: &LeaseTerm) -> bool {
    let mut transaction = pool.begin().await.expect("a transaction");
    let fenced = term.fence(&mut transaction).await;
    assert!(matches!(fenced, Ok(()) | Err(FenceError::Deposed)), "{fenced:?}");
    fenced.is_ok()
}

#[tokio::test]
async fn a_clock_that_steps_forward_ends_a_lease_and_the_former_leaders_writes_are_refused() {
    for shift in ["3 hours", "5 years"] {
        let mut database = database().await;
        let clock = database.with_clock().await;
        let wire = Proxy::to_postgres().await;
        let former = Candidate::start(&database.url_at(wire.addr()));
        wait_for("it leads", PATIENCE, async || former.term().is_some()).await;
        let old = former.term().expect("leads");
        let mut begun = database.pool.begin().await.expect("a transaction");
        old.fence(&mut begun).await.expect("it leads");
        // Its renewal does not come in time, and it does not know that its lease has ended.
        wire.freeze();
        clock.set(shift).await;
        let rival = Candidate::start(&database.url);
        wait_for("the rival waits for the lock", PATIENCE, async || rival_waits(&database.pool).await).await;
        begun.commit().await.expect("a write of the old term, before the new one");
        wait_for("the rival leads", PATIENCE, async || rival.term().is_some()).await;
        let new = rival.term().expect("leads");
        assert!(new.epoch > old.epoch && is_taken(&database.pool, &new).await, "{shift}");
        assert!(!is_taken(&database.pool, &old).await, "{shift}");

        wire.heal();
        wait_for("the former leader has stopped", PATIENCE, async || former.term().is_none()).await;
        assert!(lease_runs(&database.pool).await && is_taken(&database.pool, &new).await, "{shift}");
    }
}

#[tokio::test]
async fn whichever_way_the_clock_steps_the_writes_of_one_candidate_are_taken() {
    let mut database = database().await;
    let clock = database.with_clock().await;
    let candidates = [Candidate::start(&database.url), Candidate::start(&database.url)];
    let mut former: Vec<LeaseTerm> = Vec::new();
    for shift in ["0", "3 hours", "-3 hours", "5 years", "0"] {
        clock.set(shift).await;
        // Renewed or taken since: it neither has run out nor lies further ahead than a lease lasts.
        let leads = async || {
            let asked = "SELECT expires_at BETWEEN clock_timestamp() AND clock_timestamp() + $1 FROM leases";
            let asked = sqlx::query_scalar::<_, bool>(asked).bind(LEASE).fetch_optional(&database.pool).await;
            let terms: Vec<_> = candidates.iter().filter_map(Candidate::term).collect();
            let [term] = terms.as_slice() else { return false };
            asked.expect("an answer") == Some(true) && is_taken(&database.pool, term).await
        };
        wait_for("one of them to lead", PATIENCE, leads).await;
        let leading = candidates.iter().find_map(Candidate::term).expect("one leads");
        for old in former.iter().filter(|old| old.epoch != leading.epoch) {
            assert!(!is_taken(&database.pool, old).await, "{shift}: {} after {}", old.epoch, leading.epoch);
        }
        former.push(leading);
    }
}

/// A candidate in a process of its own, so to speak, which is suspended as soon as it leads: its work blocks the only
/// thread that it has. Awake again, it writes.
struct Suspended {
    stopping: CancellationToken,
    term: Arc<Mutex<Option<LeaseTerm>>>,
    wake: mpsc::Sender<()>,
    thread: thread::JoinHandle<anyhow::Result<()>>,
}

impl Suspended {
    fn start(url: &str) -> Self {
        let (stopping, term) = (CancellationToken::new(), Arc::<Mutex<Option<LeaseTerm>>>::default());
        let (wake, woken) = mpsc::channel();
        let (woken, url, ending, told) = (Arc::new(Mutex::new(woken)), url.to_owned(), stopping.clone(), term.clone());
        let database = Database::parse(&SecretString::from(url.clone())).expect("a URL");
        let work = move |term: LeaseTerm| {
            let (woken, url, ending, told) = (woken.clone(), url.clone(), ending.clone(), told.clone());
            async move {
                let mut connection = PgConnection::connect(&url).await?;
                *told.lock().expect("no panic") = Some(term.clone());
                let _leading = Leading(told);
                // Also when the sender is gone: the second term that it could get ends with the test.
                woken.lock().expect("no panic").recv().unwrap_or_default();
                let mut transaction = connection.begin().await?;
                if term.fence(&mut transaction).await.is_ok() {
                    sqlx::query("INSERT INTO writes VALUES ($1)").bind(term.epoch).execute(&mut *transaction).await?;
                    transaction.commit().await?;
                    ending.cancelled().await;
                }
                Ok(())
            }
        };
        let runtime = ServiceRuntime::new("test", stopping.clone(), Clock::system());
        let thread = thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio.block_on(run_as_leader(runtime, database, "sending", work))
        });
        Self { stopping, term, wake, thread }
    }

    fn term(&self) -> Option<LeaseTerm> {
        self.term.lock().expect("no panic").clone()
    }
}

/// A replica that does a periodic job every moment, whenever it is its turn.
struct Cleaner {
    runtime: ServiceRuntime,
    turns: Arc<AtomicU32>,
}

impl Cleaner {
    fn start(url: &str) -> Self {
        let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
        let database = Database::parse(&SecretString::from(url.to_owned())).expect("a URL");
        let turns: Arc<AtomicU32> = Arc::default();
        let counted = turns.clone();
        let job = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        };
        let moment = Duration::from_millis(5);
        spawn_periodic(&runtime, &database, "cleaning", Periodic::new("cleaning", moment, PATIENCE, job));
        Self { runtime, turns }
    }

    fn turns(&self) -> u32 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Waits until it has had so many turns more.
    async fn has_more_turns(&self, count: u32) {
        let before = self.turns();
        wait_for("more turns", PATIENCE, async || self.turns() >= before + count).await;
    }

    async fn stop(&self) {
        self.runtime.tasks.stopping().cancel();
        self.runtime.tasks.join().await.expect("a clean stop");
    }
}

#[tokio::test]
async fn a_leader_that_was_suspended_writes_nothing_when_it_wakes() {
    // While it is suspended the clock runs on, or is set to what it is when the machine wakes.
    for shift in ["0", "8 hours"] {
        let mut database = database().await;
        let clock = database.with_clock().await;
        sqlx::query("CREATE TABLE writes (epoch bigint)").execute(&database.pool).await.expect("the table");
        let suspended = Suspended::start(&database.url);
        wait_for("it leads", PATIENCE, async || suspended.term().is_some()).await;
        let old = suspended.term().expect("leads");
        clock.set(shift).await;
        let rival = Candidate::start(&database.url);
        wait_for("the rival leads", PATIENCE, async || rival.term().is_some()).await;
        suspended.wake.send(()).expect("asleep");
        wait_for("it has stopped", PATIENCE, async || suspended.term().is_none()).await;
        let written: i64 =
            sqlx::query_scalar("SELECT count(*) FROM writes").fetch_one(&database.pool).await.expect("a count");
        assert_eq!(written, 0, "{shift}");
        assert!(!is_taken(&database.pool, &old).await && is_taken(&database.pool, &rival.term().expect("leads")).await);
        suspended.stopping.cancel();
        suspended.thread.join().expect("no panic").expect("a clean stop");
    }
}

#[tokio::test]
async fn a_periodic_job_is_done_by_one_replica_and_by_the_other_when_that_one_stops() {
    let database = database().await;
    let first = Cleaner::start(&database.url);
    first.has_more_turns(3).await;
    let second = Cleaner::start(&database.url);
    let asked = async || {
        // Who holds the lease renews it; who was refused has committed nothing.
        let asked = "SELECT count(*) >= 2 FROM pg_stat_activity WHERE datname = current_database()
                     AND application_name = 'test' AND (query LIKE '%leases%' OR query = 'COMMIT')";
        sqlx::query_scalar::<_, bool>(asked).fetch_one(&database.pool).await.expect("an answer")
    };
    wait_for("the second has asked for the lease", PATIENCE, asked).await;
    first.has_more_turns(20).await;
    assert_eq!(second.turns(), 0, "both did it");

    first.stop().await;
    let ended = first.turns();
    // The lease is given back, so the second need not wait until it runs out.
    wait_for("the second does it", LEASE, async || second.turns() > 0).await;
    second.has_more_turns(20).await;
    assert_eq!(first.turns(), ended, "both did it");
    second.stop().await;
}
