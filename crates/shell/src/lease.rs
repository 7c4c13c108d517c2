//! One leader at a time: a row that its holder renews, with an epoch that rises with every holder.
//!
//! The holder renews every two seconds on a connection of its own, outside the pool, so that a busy
//! pool cannot cost it the lease. When it cannot renew, it stops leading before the lease runs out.
//! Since a process may be frozen at any point, each of the leader's writes also checks the epoch
//! with [`Term::hold`]: an older one is refused.
//!
//! Every service that uses this has the table `leases` in its migrations.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::Context;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Shell, postgres::Database};

/// How long a lease lasts without being renewed, by the database's clock.
pub const LEASE: Duration = Duration::from_secs(6);
/// How often it is renewed, and asked for.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(2);
/// A holder that has not renewed for this long stops leading: sooner than [`LEASE`], by its own clock.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
/// How long one renewal may take.
const RENEWAL_LIMIT: Duration = Duration::from_secs(2);

/// One holder's time as the leader.
#[derive(Clone, Debug)]
pub struct Term {
    /// Rises with every holder.
    pub epoch: i64,
    name: &'static str,
}

/// The lease belongs to a later leader; the write was not made.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// Another process leads now.
    #[error("another process leads now")]
    Deposed,
    /// The database could not answer.
    #[error("check the lease")]
    Database(#[from] sqlx::Error),
}

impl Term {
    /// Makes the transaction of `connection` belong to this term: no later leader can begin before
    /// it ends.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn hold(&self, connection: &mut PgConnection) -> Result<(), HoldError> {
        let epoch: Option<i64> = sqlx::query_scalar("SELECT epoch FROM leases WHERE name = $1 FOR SHARE")
            .bind(self.name)
            .fetch_optional(connection)
            .await?;
        if epoch == Some(self.epoch) { Ok(()) } else { Err(HoldError::Deposed) }
    }
}

/// Does `work` whenever this process is the leader for `name`, until the shell stops.
///
/// Work that is under way when the lease is lost is dropped at its next await; work that [`Term::hold`] refuses
/// ends well, and the lease is asked for again. When the shell stops, work is expected to end by itself; then the
/// lease is given back, so that the next leader need not wait.
///
/// # Errors
/// The error of `work`.
pub async fn lead<F, Fut>(shell: Shell, database: Database, name: &'static str, mut work: F) -> anyhow::Result<()>
where
    F: FnMut(Term) -> Fut + Send,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let holder = Uuid::now_v7();
    let options = database.options(shell.service);
    let stopping = shell.tasks.stopping().clone();
    while !stopping.is_cancelled() {
        let connected = timeout(RENEWAL_LIMIT, PgConnection::connect_with(&options)).await;
        if let Ok(Ok(mut connection)) = connected {
            campaign(&mut connection, name, holder, &stopping, &mut work).await?;
        }
        pause(&stopping).await;
    }
    Ok(())
}

/// Asks for the lease until this connection breaks or the shell stops; leads in between.
async fn campaign<F, Fut>(
    connection: &mut PgConnection,
    name: &'static str,
    holder: Uuid,
    stopping: &CancellationToken,
    work: &mut F,
) -> anyhow::Result<()>
where
    F: FnMut(Term) -> Fut + Send,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    while !stopping.is_cancelled() {
        let asked_at = Instant::now();
        match timeout(RENEWAL_LIMIT, acquire(connection, name, holder)).await {
            Ok(Ok(Some(epoch))) => {
                tracing::info!(epoch, "leading {name}");
                let term = Term { epoch, name };
                tokio::select! {
                    ended = work(term) => {
                        if ended.is_ok() && !stopping.is_cancelled() {
                            tracing::warn!(epoch, "no longer leading {name}: a later leader's term refused the work");
                        }
                        release(connection, name, holder, epoch).await;
                        return ended.with_context(|| format!("lead {name}"));
                    }
                    reason = keep(connection, name, holder, epoch, asked_at) => {
                        tracing::warn!(epoch, "no longer leading {name}: {reason}");
                        return Ok(());
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

/// Renews until it can no longer be sure of the lease; answers why.
async fn keep(connection: &mut PgConnection, name: &str, holder: Uuid, epoch: i64, begun: Instant) -> String {
    let mut renewed_at = begun;
    loop {
        tokio::time::sleep(RENEWAL_INTERVAL).await;
        let asked_at = Instant::now();
        match timeout(RENEWAL_LIMIT, renew(connection, name, holder, epoch)).await {
            Ok(Ok(true)) => renewed_at = asked_at,
            Ok(Ok(false)) => return "another process took over".to_owned(),
            Ok(Err(error)) => return format!("the database is away: {error}"),
            Err(_) => {}
        }
        if renewed_at.elapsed() > GIVE_UP_AFTER {
            return "the database does not answer".to_owned();
        }
    }
}

async fn acquire(connection: &mut PgConnection, name: &str, holder: Uuid) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(
        "INSERT INTO leases AS held (name, holder, epoch, expires_at) VALUES ($1, $2, 1, now() + $3)
         ON CONFLICT (name) DO UPDATE
         SET holder = excluded.holder, epoch = held.epoch + 1, expires_at = excluded.expires_at
         WHERE held.expires_at < now()
         RETURNING epoch",
    )
    .bind(name)
    .bind(holder)
    .bind(LEASE)
    .fetch_optional(connection)
    .await
}

async fn renew(connection: &mut PgConnection, name: &str, holder: Uuid, epoch: i64) -> sqlx::Result<bool> {
    let renewing = "UPDATE leases SET expires_at = now() + $4 WHERE name = $1 AND holder = $2 AND epoch = $3";
    let renewed = sqlx::query(renewing).bind(name).bind(holder).bind(epoch).bind(LEASE).execute(connection).await?;
    Ok(renewed.rows_affected() == 1)
}

async fn release(connection: &mut PgConnection, name: &str, holder: Uuid, epoch: i64) {
    let releasing = "UPDATE leases SET expires_at = '-infinity' WHERE name = $1 AND holder = $2 AND epoch = $3";
    let released = sqlx::query(releasing).bind(name).bind(holder).bind(epoch).execute(connection);
    if !matches!(timeout(RENEWAL_LIMIT, released).await, Ok(Ok(_))) {
        tracing::debug!("the lease {name} could not be given back and will run out");
    }
}

async fn pause(stopping: &CancellationToken) {
    tokio::select! {
        () = stopping.cancelled() => {}
        () = tokio::time::sleep(RENEWAL_INTERVAL) => {}
    }
}
