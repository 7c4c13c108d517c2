//! A pool whose connections go from one request to the next without going back in between.
//!
//! Whenever a connection comes back to sqlx's pool, sqlx asks PostgreSQL for a sign of life
//! (`Floating::return_to_pool`): to a request of one short statement that is a second round trip. So a connection on
//! which a statement has just succeeded, or a transaction was ended, is kept here for the next caller. Every other
//! connection goes back to sqlx's pool, which clears up and tests it: after a failure, after an interruption, and when
//! nothing has used it for a second. At times each goes back in any case, so that sqlx's limit on its age holds.
//!
//! Nothing else may take connections from that pool of sqlx's. There are as many permits as it has connections, and who
//! asks it holds one. So a caller waits there only while a connection is being made or is on its way back; and as long
//! as one does, what comes free goes to it.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{TryStreamExt, future::BoxFuture, stream::BoxStream};
use runtime::tasks::Tasks;
use scopeguard::{ScopeGuard, guard};
use sqlx::{
    Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use sqlx_core::try_stream;
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
    /// Callers who wait for a place.
    queued: AtomicUsize,
    /// Callers who wait at sqlx's pool.
    waiting: AtomicUsize,
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

/// How a pool is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Connections that are lent, or being made or tested.
    pub(crate) in_use: u32,
    /// Connections that wait for a caller.
    pub(crate) idle: u32,
    /// Connections that there may be.
    pub(crate) max: u32,
    /// Callers who wait for a connection.
    pub(crate) waiting: u32,
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
        let (queued, waiting) = Default::default();
        let kept = Kept { permits, queued, waiting, idle: Mutex::default(), some: Notify::new() };
        let kept = Arc::new(kept);
        let sweeper = sweep(kept.clone());
        let stopping = tasks.stopping().clone();
        tasks.spawn_droppable("give idle connections back", async move {
            stopping.run_until_cancelled(sweeper).await;
            Ok(())
        });
        Self { sqlx, kept: Some(kept) }
    }

    /// sqlx's own pool, for tests to look at. What is kept here is missing there.
    #[doc(hidden)]
    #[must_use]
    pub const fn sqlx(&self) -> &PgPool {
        &self.sqlx
    }

    /// How the pool is used now. The figures are read one after the other, so they need not fit each other exactly.
    pub(crate) fn usage(&self) -> Usage {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let kept = self.kept.as_ref();
        let idle = count(self.sqlx.num_idle() + kept.map_or(0, |kept| kept.idle().len()));
        let waiting = |kept: &Arc<Kept>| kept.queued.load(Ordering::Acquire) + kept.waiting.load(Ordering::Acquire);
        Usage {
            in_use: self.sqlx.size().saturating_sub(idle),
            idle,
            max: self.sqlx.options().get_max_connections(),
            waiting: count(kept.map_or(0, waiting)),
        }
    }

    /// A connection for several statements.
    pub(crate) async fn acquire(&self) -> sqlx::Result<Lent> {
        let Some(kept) = &self.kept else {
            return Ok(Lent { connection: self.sqlx.acquire().await?, taken_at: Instant::now(), place: None });
        };
        let lent = timeout(self.sqlx.options().get_acquire_timeout(), kept.lend(&self.sqlx)).await;
        lent.map_err(|_| sqlx::Error::PoolTimedOut)?
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
    async fn lend(self: &Arc<Self>, sqlx: &PgPool) -> sqlx::Result<Lent> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _queued = counted(&self.queued);
                self.permits.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?
            }
        };
        let place = Some(Place { kept: self.clone(), _permit: permit });
        if let Some(Idle { connection, taken_at, .. }) = self.take() {
            return Ok(Lent { connection, taken_at, place });
        }
        let _waiting = counted(&self.waiting);
        Ok(Lent { connection: sqlx.acquire().await?, taken_at: Instant::now(), place })
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

    /// Gives back what nothing has used for long. When the next one is due, if something is left.
    fn give_back_stale(&self) -> Option<Duration> {
        let mut idle = self.idle();
        let fresh = idle.iter().position(|idle| idle.used_at.elapsed() < KEPT_IDLE).unwrap_or(idle.len());
        let stale: Vec<_> = idle.drain(..fresh).collect();
        let next = idle.first().map(|idle| KEPT_IDLE.saturating_sub(idle.used_at.elapsed()));
        drop(idle);
        drop(stale);
        next
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

/// Counts one more, until this is dropped.
fn counted(count: &AtomicUsize) -> ScopeGuard<(), impl FnOnce(())> {
    count.fetch_add(1, Ordering::AcqRel);
    guard((), |()| {
        count.fetch_sub(1, Ordering::AcqRel);
    })
}

/// Gives back what nothing uses, for ever.
async fn sweep(kept: Arc<Kept>) {
    loop {
        kept.some.notified().await;
        while let Some(next) = kept.give_back_stale() {
            tokio::time::sleep(next).await;
        }
    }
}

impl Lent {
    /// What was asked of it has succeeded, and nothing is left on the wire.
    pub(crate) fn keep(self) {
        let Self { connection, taken_at, place } = self;
        let Some(place) = place else { return };
        // Dropped, it goes back to sqlx's pool.
        if taken_at.elapsed() > KEPT || place.kept.waiting.load(Ordering::Acquire) > 0 {
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

    /// Closes the connection, since nobody knows what it is in the middle of.
    pub(crate) fn close(mut self) {
        self.connection.close_on_drop();
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

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        // Row by row, so that sqlx reads all of them into the same buffer.
        Box::pin(try_stream! {
            let mut lent = pool.acquire().await?;
            let mut steps = lent.fetch_many(query);
            while let Some(step) = steps.try_next().await? {
                r#yield!(step);
            }
            drop(steps);
            lent.keep();
            Ok(())
        })
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
