//! Tells data-collector who was deleted, again and again until it has said yes.
//!
//! The outbox row is written with the deletion, so nothing is forgotten by a crash. A row is claimed
//! for one call, called without a transaction open, and then settled or postponed; a replica that
//! dies in between leaves a claim that runs out, and the call is repeated, which changes nothing at
//! data-collector. While calls fail, one deletion at a time is tried, so that a data-collector that
//! is down or overloaded is not rushed.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use grpc_edge::IdentifiedChannel;
use proto::v1::{UserRequest, data_collector_service_client::DataCollectorServiceClient};
use runtime::{ServiceRuntime, fault, periodic::every, trace::RequestContext};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tracing::Instrument;

use crate::{
    core::retry::wait_after,
    store::{Deletion, Store},
};

/// How many deletions are called out at once.
const AT_ONCE: i64 = 16;
/// How often the outbox is looked at when nobody says that there is something: rows of a replica
/// that died are found so.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How long settled deletions are kept for whoever asks what happened.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
const CLEANING_INTERVAL: Duration = Duration::from_secs(3600);
const CLEANING_LIMIT: Duration = Duration::from_secs(60);
/// How long one turn may take: longer than claims, one call and records do, and no longer, so that a connection that
/// died silently does not stop the relay.
const TURN_LIMIT: Duration = Duration::from_secs(15);

/// The relay of deletions of one replica.
pub struct Relay {
    store: Store,
    data_collector: DataCollectorServiceClient<IdentifiedChannel>,
    deleted: Arc<Notify>,
    stopping: CancellationToken,
}

/// What one look at the outbox led to.
enum Turn {
    /// Nothing was due; something may be after this time.
    Idle(Duration),
    /// Everything that was claimed is settled; there may be more.
    Settled,
    /// Something is to be tried again.
    Failed,
}

impl Relay {
    /// A relay that looks at the outbox at once when `deleted` is notified. `/readyz` names
    /// data-collector from now on, without deciding by it.
    #[must_use]
    pub fn new(runtime: &ServiceRuntime, store: Store, data_collector: Endpoint, deleted: Arc<Notify>) -> Self {
        let channel = grpc_edge::channel(runtime.service, data_collector);
        grpc_edge::name_in_readiness(runtime, "data-collector", channel.clone());
        let data_collector = DataCollectorServiceClient::new(channel);
        Self { store, data_collector, deleted, stopping: runtime.tasks.stopping().clone() }
    }

    /// Relays until the service stops.
    ///
    /// # Errors
    /// Never; every failure is waited out.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut failures = 0u32;
        while !self.stopping.is_cancelled() {
            let turn = tokio::time::timeout(TURN_LIMIT, self.turn(failures)).await;
            let wait = match turn.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                Ok(Turn::Settled) => {
                    failures = 0;
                    continue;
                }
                Ok(Turn::Idle(wait)) => wait,
                Ok(Turn::Failed) => {
                    failures = failures.saturating_add(1);
                    wait_after(failures, rand::random())
                }
                Err(error) => {
                    tracing::debug!("look for deletions to relay: {error}");
                    failures = failures.saturating_add(1);
                    wait_after(failures, rand::random())
                }
            };
            tokio::select! {
                () = self.stopping.cancelled() => {}
                () = self.deleted.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    async fn turn(&self, failures: u32) -> sqlx::Result<Turn> {
        let deletions = self.store.claim_deletions(if failures == 0 { AT_ONCE } else { 1 }).await?;
        if deletions.is_empty() {
            let due = self.store.next_call_in().await?;
            return Ok(Turn::Idle(due.map_or(POLL_INTERVAL, |due| due.min(POLL_INTERVAL))));
        }
        let relayed = futures::future::join_all(deletions.into_iter().map(|deletion| self.relay(deletion))).await;
        let all = relayed.into_iter().collect::<sqlx::Result<Vec<_>>>()?.into_iter().all(|settled| settled);
        Ok(if all { Turn::Settled } else { Turn::Failed })
    }

    /// Makes one call and notes how it went. Answers whether the deletion is settled now.
    async fn relay(&self, deletion: Deletion) -> sqlx::Result<bool> {
        let request_id = deletion.context.request_id.as_deref().unwrap_or_default();
        let span = tracing::info_span!("relay a deletion", user.id = %deletion.user_id.0, %request_id);
        let carried = deletion.context.enter(&span);
        async {
            match self.call(&deletion, &carried).await {
                Ok(removed) => {
                    fault::point("user-manager.relayed-not-recorded");
                    self.store.settle_deletion(deletion.user_id).await?;
                    tracing::info!("data-collector removed {removed} interests of a deleted user");
                    Ok(true)
                }
                Err(error) => {
                    tracing::warn!("tell data-collector of a deletion, call {}: {error}", deletion.calls);
                    self.store.postpone_deletion(deletion.user_id, wait_after(deletion.calls, rand::random())).await?;
                    Ok(false)
                }
            }
        }
        .instrument(span.clone())
        .await
    }

    /// How many interests data-collector removed.
    async fn call(&self, deletion: &Deletion, context: &RequestContext) -> anyhow::Result<i64> {
        let message = UserRequest { email: deletion.email.clone(), user_id: Some(deletion.user_id.0.to_string()) };
        let called = self.data_collector.clone().delete_user_interests(grpc_edge::request(message, context)).await;
        match called.map(tonic::Response::into_inner) {
            Ok(answer) if answer.success => Ok(answer.deleted_count),
            Ok(_) => bail!("it answered without success"),
            // The message of a status could repeat the address that it is about.
            Err(status) => bail!("{}", status.code().description()),
        }
    }
}

/// Removes deletions that were settled long ago, until the service stops.
///
/// # Errors
/// Never; a database that is away is tried again at the next turn.
pub async fn clean_up(runtime: ServiceRuntime, store: Store) -> anyhow::Result<()> {
    let store = &store;
    every(runtime, "clean-up of settled deletions", CLEANING_INTERVAL, CLEANING_LIMIT, || async move {
        let removed = store.forget_deletions(RETENTION).await?;
        if removed > 0 {
            tracing::info!("removed {removed} deletions that were settled long ago");
        }
        Ok(())
    })
    .await
}
