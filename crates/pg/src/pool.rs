//! A pool whose connections go from one request to the next without going back in between.
//!
//! Whenever a connection comes back to sqlx's pool, sqlx asks PostgreSQL for a sign of life
//! (`Floating::return_to_pool`). To a request of one short statement that is a second round trip. So a connection on
//! which a statement has just succeeded is kept here for the next one. It goes back to sqlx's pool when another caller
//! waits there, when nothing has used it for a second, and at times in any case, so that sqlx's limits on its age hold. A
//! connection whose caller has gone, or whose statement failed, goes back at once.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Either, Execute, Executor, PgPool, Postgres, SqlStr, Transaction,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

/// A connection that nothing has used for so long goes back, and is tested there before it is lent again.
pub(crate) const KEPT_IDLE: Duration = Duration::from_secs(1);
/// However busy, a connection goes back after so long.
const KEPT: Duration = Duration::from_secs(60);

/// Connections to a database. Clones share them.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: PgPool,
    /// None where others use the same pool of sqlx's, who would wait for what is kept here.
    kept: Option<Arc<Kept>>,
}

#[derive(Debug, Default)]
struct Kept(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The one that was used last is the last.
    idle: Vec<Idle>,
    /// Callers who wait at sqlx's pool.
    waiting: usize,
    is_swept: bool,
}

#[derive(Debug)]
struct Idle {
    connection: PoolConnection<Postgres>,
    taken_at: Instant,
    used_at: Instant,
}

/// A connection that is lent for one statement. Unless it is kept, it goes back to sqlx's pool.
struct Lent {
    connection: PoolConnection<Postgres>,
    taken_at: Instant,
    pool: Pool,
}

/// One who waits at sqlx's pool, as long as this lives.
struct Waiting<'p>(&'p Kept);

impl From<PgPool> for Pool {
    /// A pool that others use as well: every connection goes back at once.
    fn from(pool: PgPool) -> Self {
        Self { pool, kept: None }
    }
}

impl Pool {
    /// Over a pool of sqlx's that nothing else uses.
    pub(crate) fn alone_on(pool: PgPool) -> Self {
        Self { pool, kept: Some(Arc::default()) }
    }

    /// sqlx's own pool. A connection that is kept here is missing there for a second.
    #[must_use]
    pub fn sqlx(&self) -> &PgPool {
        &self.pool
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the database is away, or no connection comes free in time.
    pub(crate) async fn begin(&self, statement: Option<SqlStr>) -> sqlx::Result<Transaction<'static, Postgres>> {
        let Lent { connection, .. } = self.acquire().await?;
        Transaction::begin(connection, statement).await
    }

    async fn acquire(&self) -> sqlx::Result<Lent> {
        let lent = |connection, taken_at| Lent { connection, taken_at, pool: self.clone() };
        let Some(kept) = &self.kept else { return Ok(lent(self.pool.acquire().await?, Instant::now())) };
        let _waiting = match kept.take_or_wait() {
            Ok(Idle { connection, taken_at, .. }) => return Ok(lent(connection, taken_at)),
            Err(waiting) => waiting,
        };
        Ok(lent(self.pool.acquire().await?, Instant::now()))
    }
}

impl Kept {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection, or from now on one more who waits.
    fn take_or_wait(&self) -> Result<Idle, Waiting<'_>> {
        let mut state = self.state();
        match state.idle.pop_if(|idle| idle.used_at.elapsed() < KEPT_IDLE) {
            Some(idle) => Ok(idle),
            None => {
                state.waiting += 1;
                // Those who wait are served from sqlx's pool.
                let stale = std::mem::take(&mut state.idle);
                drop(state);
                drop(stale);
                Err(Waiting(self))
            }
        }
    }

    /// Keeps a connection, unless somebody waits for one.
    fn keep(self: &Arc<Self>, connection: PoolConnection<Postgres>, taken_at: Instant) {
        let mut state = self.state();
        if state.waiting > 0 || taken_at.elapsed() > KEPT {
            // Dropped after the lock: it goes back to sqlx's pool in a task.
            drop(state);
            return drop(connection);
        }
        state.idle.push(Idle { connection, taken_at, used_at: Instant::now() });
        if !std::mem::replace(&mut state.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Gives back what nothing has used for long. `false` when nothing is kept any more.
    fn give_back_idle(&self) -> bool {
        let mut state = self.state();
        let fresh = state.idle.iter().position(|idle| idle.used_at.elapsed() < KEPT_IDLE);
        let fresh = fresh.unwrap_or(state.idle.len());
        let stale: Vec<_> = state.idle.drain(..fresh).collect();
        let some_are_left = !state.idle.is_empty();
        state.is_swept = some_are_left;
        drop(state);
        drop(stale);
        some_are_left
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// Gives idle connections back until none is kept.
async fn sweep(kept: Weak<Kept>) {
    loop {
        tokio::time::sleep(KEPT_IDLE).await;
        if !kept.upgrade().is_some_and(|kept| kept.give_back_idle()) {
            return;
        }
    }
}

impl Lent {
    /// The statement has succeeded, and what it left on the wire is read before the next one.
    fn keep(self) {
        if let Some(kept) = &self.pool.kept {
            kept.keep(self.connection, self.taken_at);
        }
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
            let mut lent = pool.acquire().await?;
            let all: Vec<_> = lent.connection.fetch_many(query).try_collect().await?;
            lent.keep();
            Ok::<_, sqlx::Error>(stream::iter(all).map(Ok))
        };
        all.into_stream().try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut lent = pool.acquire().await?;
            let row = lent.connection.fetch_optional(query).await?;
            lent.keep();
            Ok(row)
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'p: 'e,
    {
        let pool = self.pool.clone();
        Box::pin(async move { pool.acquire().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<sqlx::Describe<Postgres>>>
    where
        'p: 'e,
    {
        let pool = self.pool.clone();
        Box::pin(async move { pool.acquire().await?.describe(sql).await })
    }
}
