//! A pool whose connections go from one request to the next without going back in between.
//!
//! Whenever a connection comes back to sqlx's pool, sqlx asks PostgreSQL for a sign of life
//! (`Floating::return_to_pool`): to a request of one short statement that is a second round trip. So a connection on
//! which a statement or transaction has just succeeded is kept here for the next one. Every other connection goes back to sqlx's pool,
//! which clears up and tests it: after a failure, after an interruption, and when nothing has used it for a second. At times each goes back in any case, so that sqlx's limit on its age holds.
//!
//! Nothing else may take connections from that pool of sqlx's. There are as many permits as it has connections, and who
//! asks it holds one. So a caller who finds none kept waits there for a connection to be made or to come back, never for
//! one that is kept meanwhile.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use runtime::tasks::Tasks;
use sqlx::{
    Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A connection that nothing has used for so long goes back, and is tested before it is lent again.
pub(crate) const KEPT_IDLE: Duration = Duration::from_secs(1);
/// However busy, a connection goes back after so long.
const KEPT: Duration = Duration::from_secs(60);

/// Connections to a database. Clones share them.
#[derive(Clone, Debug)]
pub struct Pool {
    sqlx: PgPool,
    /// None where others use the same pool of sqlx's, who would wait for what is kept here.
    kept: Option<Arc<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// One for each connection that is lent, or asked of sqlx.
    permits: Arc<Semaphore>,
    /// The one that was used last is the last.
    idle: Mutex<Vec<Idle>>,
    /// Tells the sweeper that something is kept.
    some: Notify,
}

#[derive(Debug)]
struct Idle {
    connection: PoolConnection<Postgres>,
    taken_at: Instant,
    used_at: Instant,
}

/// A connection that is lent. Unless it is kept, it goes back to sqlx's pool.
#[derive(Debug)]
pub(crate) struct Lent {
    connection: PoolConnection<Postgres>,
    taken_at: Instant,
    /// Whose it is while it is lent.
    place: Option<Place>,
}

/// The right to one of a pool's connections.
#[derive(Debug)]
struct Place {
    kept: Arc<Kept>,
    _permit: OwnedSemaphorePermit,
}

impl From<PgPool> for Pool {
    /// A pool that others use as well: every connection goes back at once.
    fn from(sqlx: PgPool) -> Self {
        Self { sqlx, kept: None }
    }
}

impl Pool {
    /// Over a pool of sqlx's that nothing else uses.
    pub(crate) fn alone_on(sqlx: PgPool, tasks: &Tasks) -> Self {
        let permits = usize::try_from(sqlx.options().get_max_connections()).unwrap_or(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(permits));
        let kept = Arc::new(Kept { permits, idle: Mutex::default(), some: Notify::new() });
        let sweeper = sweep(kept.clone());
        let stopping = tasks.stopping().clone();
        tasks.spawn_droppable("give idle connections back", async move {
            stopping.run_until_cancelled(sweeper).await;
            Ok(())
        });
        Self { sqlx, kept: Some(kept) }
    }

    /// sqlx's own pool. What is kept here is missing there.
    #[must_use]
    pub const fn sqlx(&self) -> &PgPool {
        &self.sqlx
    }

    /// A connection for several statements.
    pub(crate) async fn acquire(&self) -> sqlx::Result<Lent> {
        let place = match &self.kept {
            Some(kept) => Some(kept.place(self.sqlx.options().get_acquire_timeout()).await?),
            None => None,
        };
        let idle = place.as_ref().and_then(|place| place.kept.take());
        let (connection, taken_at) = match idle {
            Some(idle) => (idle.connection, idle.taken_at),
            None => (self.sqlx.acquire().await?, Instant::now()),
        };
        Ok(Lent { connection, taken_at, place })
    }

    /// Runs one statement. Whoever drops this before its end, or meets an error, gives the connection back to sqlx.
    async fn run<T>(&self, statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>) -> sqlx::Result<T> {
        let mut lent = self.acquire().await?;
        let answer = statement(&mut lent).await?;
        lent.keep();
        Ok(answer)
    }
}

impl Kept {
    async fn place(self: &Arc<Self>, limit: Duration) -> sqlx::Result<Place> {
        let permit = timeout(limit, self.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        Ok(Place { kept: self.clone(), _permit: permit })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last. One that is stale goes back, and so do all the others, which are older.
    fn take(&self) -> Option<Idle> {
        let mut idle = self.idle();
        let fresh = idle.pop_if(|idle| idle.used_at.elapsed() < KEPT_IDLE);
        let stale = if fresh.is_none() { mem::take(&mut *idle) } else { Vec::new() };
        // Going back begins a task each, which is not for a time under the lock.
        drop(idle);
        drop(stale);
        fresh
    }

    /// Gives back what nothing has used for long. Whether something is left.
    fn give_back_stale(&self) -> bool {
        let mut idle = self.idle();
        let fresh = idle.iter().position(|idle| idle.used_at.elapsed() < KEPT_IDLE).unwrap_or(idle.len());
        let stale: Vec<_> = idle.drain(..fresh).collect();
        let some_are_left = !idle.is_empty();
        drop(idle);
        drop(stale);
        some_are_left
    }
}

impl Drop for Kept {
    /// Closes what is kept. To go back, a connection would need a runtime, which may have ended.
    fn drop(&mut self) {
        for idle in mem::take(self.idle.get_mut().unwrap_or_else(PoisonError::into_inner)) {
            drop(idle.connection.detach());
        }
    }
}

/// Gives back what nothing uses, for ever.
async fn sweep(kept: Arc<Kept>) {
    loop {
        kept.some.notified().await;
        loop {
            tokio::time::sleep(KEPT_IDLE).await;
            if !kept.give_back_stale() {
                break;
            }
        }
    }
}

impl Lent {
    /// What was asked of it has succeeded, and nothing is left on the wire.
    pub(crate) fn keep(self) {
        let Self { connection, taken_at, place } = self;
        let Some(place) = place else { return };
        if taken_at.elapsed() > KEPT {
            return;
        }
        let mut idle = place.kept.idle();
        idle.push(Idle { connection, taken_at, used_at: Instant::now() });
        let is_first = idle.len() == 1;
        drop(idle);
        if is_first {
            place.kept.some.notify_one();
        }
        // The place goes last: who gets it finds the connection.
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl<'p> Executor<'p> for &'_ Pool {
    type Database = Postgres;

    /// All rows are read before the first is given, so that the connection is free at once.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let all = async move {
            let all: Vec<_> = pool.run(async |connection| connection.fetch_many(query).try_collect().await).await?;
            Ok::<_, sqlx::Error>(stream::iter(all).map(Ok))
        };
        all.into_stream().try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move { pool.run(async |connection| connection.fetch_optional(query).await).await })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move { pool.run(async |connection| connection.prepare_with(sql, parameters).await).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<sqlx::Describe<Postgres>>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move { pool.run(async |connection| connection.describe(sql).await).await })
    }
}
