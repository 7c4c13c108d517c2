//! One leader at a time: a row that its holder renews, with an epoch that rises with every holder.
//!
//! The holder renews every two seconds on a connection of its own, outside the pools, so that a busy
//! pool cannot cost it the lease. When no renewal was answered for five seconds it stops leading, a
//! second before the lease runs out. Since a process may be frozen at any point, each of the leader's
//! writes also checks the epoch with [`LeaseTerm::fence`]: an older one is refused.
//!
//! Three row locks make that sound. A term's transaction holds `FOR KEY SHARE`. The replica that takes the lease locks
//! the row `FOR UPDATE` first, which waits for every such transaction; so no term begins inside another one's
//! transaction. A renewal changes no key column and so passes both ways.
//!
//! All times are the database's. Should its clock step back, a lease that lies further ahead than one
//! can last is free, so that leadership is not locked for as long as the step was; should it step
//! forward, the lease ends early. Either way the deposed leader's writes are refused.
//!
//! Every service that uses this has the table `leases` in its migrations.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::Context;
use runtime::{ServiceRuntime, periodic::Periodic};
use sqlx::{Connection, PgConnection};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Database;

/// How long a lease lasts without being renewed, by the database's clock.
pub const LEASE: Duration = Duration::from_secs(6);
/// How often it is renewed, and asked for.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(2);
/// A holder stops leading so long after it asked for the renewal that was answered last: sooner than [`LEASE`], by its
/// own clock, and whether it sleeps or waits for an answer meanwhile.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
/// How long connecting, taking the lease or giving it back may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// One holder's time as the leader.
#[derive(Clone, Debug)]
pub struct LeaseTerm {
    /// Rises with every holder.
    pub epoch: i64,
    name: &'static str,
}

/// The lease belongs to a later leader; the write was not made.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// Another process leads now.
    #[error("another process leads now")]
    Deposed,
    /// The database could not answer.
    #[error("check the lease")]
    Database(#[from] sqlx::Error),
}

impl LeaseTerm {
    /// Makes the transaction of `connection` belong to this term: no later leader can begin before
    /// it ends. The term's own renewals go on meanwhile.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn fence(&self, connection: &mut PgConnection) -> Result<(), FenceError> {
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM leases WHERE name = $1 FOR KEY SHARE")
            .bind(self.name)
            .fetch_optional(connection)
            .await?;
        if epoch == Some(self.epoch) { Ok(()) } else { Err(FenceError::Deposed) }
    }
}

/// Does `work` whenever this process is the leader for `name`, until the service stops.
///
/// Work that is under way when the lease is lost is dropped at its next await; work that [`LeaseTerm::fence`] refuses
/// ends well, and the lease is asked for again. When the service stops, work is expected to end by itself; then the
/// lease is given back, so that the next leader need not wait.
///
/// # Errors
/// The error of `work`.
pub async fn run_as_leader<F, Fut>(
    runtime: ServiceRuntime,
    database: Database,
    name: &'static str,
    mut work: F,
) -> anyhow::Result<()>
where
    F: FnMut(LeaseTerm) -> Fut + Send,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let holder = Uuid::now_v7();
    let stopping = runtime.tasks.stopping().clone();
    while !stopping.is_cancelled() {
        let connected = timeout(REQUEST_LIMIT, database.connect(runtime.service)).await;
        if let Ok(Ok(mut connection)) = connected {
            campaign(&mut connection, name, holder, &stopping, &mut work).await?;
        }
        pause(&stopping).await;
    }
    Ok(())
}

/// Does a periodic job in one replica only, the leader for `name`, until the service stops.
pub fn spawn_periodic(runtime: &ServiceRuntime, database: &Database, name: &'static str, job: Periodic) {
    let (task, running) = (job.name(), runtime.clone());
    let leading = run_as_leader(runtime.clone(), database.clone(), name, move |_| {
        let (job, runtime) = (job.clone(), running.clone());
        async move {
            job.run(&runtime).await;
            Ok(())
        }
    });
    runtime.tasks.spawn_droppable(task, leading);
}

/// Asks for the lease until this connection breaks or the service stops; leads in between.
async fn campaign<F, Fut>(
    connection: &mut PgConnection,
    name: &'static str,
    holder: Uuid,
    stopping: &CancellationToken,
    work: &mut F,
) -> anyhow::Result<()>
where
    F: FnMut(LeaseTerm) -> Fut + Send,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    while !stopping.is_cancelled() {
        let asked_at = Instant::now();
        match timeout(REQUEST_LIMIT, acquire(connection, name, holder)).await {
            Ok(Ok(Some(epoch))) => {
                tracing::info!(epoch, "leading {name}");
                let term = LeaseTerm { epoch, name };
                tokio::select! {
                    // A process that was frozen looks first whether it still leads.
                    biased;
                    reason = renew_until_lost(connection, name, holder, epoch, asked_at) => {
                        tracing::warn!(epoch, "no longer leading {name}: {reason}");
                        return Ok(());
                    }
                    ended = work(term) => {
                        if ended.is_ok() && !stopping.is_cancelled() {
                            tracing::warn!(epoch, "no longer leading {name}: a later leader's term refused the work");
                        }
                        release(connection, name, holder, epoch).await;
                        return ended.with_context(|| format!("lead {name}"));
                    }
                }
            }
            Ok(Ok(None)) => pause(stopping).await,
            Ok(Err(error)) => {
                tracing::debug!("ask to lead {name}: {error}");
                return Ok(());
            }
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// Renews until it can no longer be sure of the lease; answers why. `asked_at` is when the lease was asked for.
async fn renew_until_lost(
    connection: &mut PgConnection,
    name: &str,
    holder: Uuid,
    epoch: i64,
    mut asked_at: Instant,
) -> String {
    loop {
        // The lease lasts at least so long: the database counts from when it had the question.
        let deadline = asked_at + GIVE_UP_AFTER;
        let renewal = async {
            tokio::time::sleep_until((asked_at + RENEWAL_INTERVAL).into()).await;
            let asks_at = Instant::now();
            renew(connection, name, holder, epoch).await.map(|is_ours| is_ours.then_some(asks_at))
        };
        match timeout_at(deadline.into(), renewal).await {
            Ok(Ok(Some(renewal_asked_at))) => asked_at = renewal_asked_at,
            Ok(Ok(None)) => return "another process took over".to_owned(),
            Ok(Err(error)) => return format!("the database is away: {error}"),
            Err(_) => return format!("the database did not answer for {} s", GIVE_UP_AFTER.as_secs()),
        }
    }
}

/// Takes the lease, where it is free. Answers the epoch of the new term.
async fn acquire(connection: &mut PgConnection, name: &str, holder: Uuid) -> sqlx::Result<Option<i64>> {
    let mut transaction = connection.begin().await?;
    // Waits for the transactions of the term before. A lease of our own from an earlier connection is free too: that
    // connection's work was dropped. PostgreSQL checks the row again after the wait, so the condition asks for the time
    // of that moment: a leader that renewed meanwhile stays one.
    let free: Option<i64> = sqlx::query_scalar(
        "SELECT epoch FROM leases
         WHERE name = $1 AND (expires_at < clock_timestamp() OR expires_at > clock_timestamp() + $2 OR holder = $3)
         FOR UPDATE",
    )
    .bind(name)
    .bind(LEASE)
    .bind(holder)
    .fetch_optional(&mut *transaction)
    .await?;
    // Counted from now, and not from when the transaction began: it may have waited.
    let taking = match free {
        Some(_) => {
            "UPDATE leases SET holder = $2, epoch = epoch + 1, expires_at = clock_timestamp() + $3 WHERE name = $1
             RETURNING epoch"
        }
        None => {
            "INSERT INTO leases (name, holder, epoch, expires_at) VALUES ($1, $2, 1, clock_timestamp() + $3)
             ON CONFLICT (name) DO NOTHING RETURNING epoch"
        }
    };
    let taking = sqlx::query_scalar(taking).bind(name).bind(holder).bind(LEASE);
    let epoch = taking.fetch_optional(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(epoch)
}

async fn renew(connection: &mut PgConnection, name: &str, holder: Uuid, epoch: i64) -> sqlx::Result<bool> {
    let renewing =
        "UPDATE leases SET expires_at = clock_timestamp() + $4 WHERE name = $1 AND holder = $2 AND epoch = $3";
    let renewed = sqlx::query(renewing).bind(name).bind(holder).bind(epoch).bind(LEASE).execute(connection).await?;
    Ok(renewed.rows_affected() == 1)
}

async fn release(connection: &mut PgConnection, name: &str, holder: Uuid, epoch: i64) {
    let releasing = "UPDATE leases SET expires_at = '-infinity' WHERE name = $1 AND holder = $2 AND epoch = $3";
    let released = sqlx::query(releasing).bind(name).bind(holder).bind(epoch).execute(connection);
    if !matches!(timeout(REQUEST_LIMIT, released).await, Ok(Ok(_))) {
        tracing::debug!("the lease {name} could not be given back and will run out");
    }
}

async fn pause(stopping: &CancellationToken) {
    tokio::select! {
        () = stopping.cancelled() => {}
        () = tokio::time::sleep(RENEWAL_INTERVAL) => {}
    }
}
