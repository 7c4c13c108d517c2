use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::SecretString;
use shell::{
    Shell,
    clock::Clock,
    lease::{HoldError, LEASE, Term, lead},
    postgres::Database,
};
use sqlx::PgPool;
use testkit::wait_for;
use tokio_util::sync::CancellationToken;

const TABLE: &str = "CREATE TABLE leases (name text PRIMARY KEY, holder uuid NOT NULL, epoch bigint NOT NULL, \
                     expires_at timestamptz NOT NULL)";

struct Candidate {
    stopping: CancellationToken,
    term: Arc<Mutex<Option<Term>>>,
}

impl Candidate {
    fn start(url: &str) -> Self {
        let stopping = CancellationToken::new();
        let shell = Shell::new("test", stopping.clone(), Clock::system());
        let database = Database::parse(&SecretString::from(url.to_owned())).expect("a URL");
        let term: Arc<Mutex<Option<Term>>> = Arc::default();
        let (told, ending) = (term.clone(), stopping.clone());
        let work = move |term: Term| {
            let (told, ending) = (told.clone(), ending.clone());
            async move {
                *told.lock().expect("no panic") = Some(term);
                ending.cancelled().await;
                *told.lock().expect("no panic") = None;
                Ok(())
            }
        };
        shell.tasks.spawn("candidate", lead(shell.clone(), database, "sending", work));
        Self { stopping, term }
    }

    fn term(&self) -> Option<Term> {
        self.term.lock().expect("no panic").clone()
    }
}

async fn database() -> (String, PgPool) {
    let database = testkit::empty_database().await;
    sqlx::query(TABLE).execute(&database.pool).await.expect("the table");
    (database.url.clone(), database.pool.clone())
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_follows_at_once_when_it_stops() {
    let (url, pool) = database().await;
    let first = Candidate::start(&url);
    wait_for("the first leads", Duration::from_secs(20), async || first.term().is_some()).await;
    let second = Candidate::start(&url);
    let old = first.term().expect("leads");
    assert!(second.term().is_none());

    first.stopping.cancel();
    // The lease is given back, so the next leader need not wait until it runs out.
    wait_for("the second leads", LEASE, async || second.term().is_some()).await;
    let new = second.term().expect("leads");
    assert!(new.epoch > old.epoch);

    let mut connection = pool.acquire().await.expect("a connection");
    assert!(matches!(old.hold(&mut connection).await, Err(HoldError::Deposed)));
    new.hold(&mut connection).await.expect("the leader's writes are taken");
}

#[tokio::test]
async fn a_leader_that_lost_its_lease_stops() {
    let (url, pool) = database().await;
    let candidate = Candidate::start(&url);
    wait_for("it leads", Duration::from_secs(20), async || candidate.term().is_some()).await;
    let old = candidate.term().expect("leads");
    let taken = "UPDATE leases SET holder = gen_random_uuid(), epoch = epoch + 1, expires_at = now() - interval '1 s'";
    sqlx::query(taken).execute(&pool).await.expect("taken over");
    let leads_anew = async || candidate.term().is_some_and(|term| term.epoch > old.epoch);
    wait_for("it noticed, and campaigned again", Duration::from_secs(20), leads_anew).await;
}
