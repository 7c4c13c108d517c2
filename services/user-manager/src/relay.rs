//! Tells data-collector who was deleted, again and again until it has said yes.
//!
//! The job is enqueued with the deletion, so nothing is forgotten by a crash. It is called out without a transaction
//! open; a replica that dies meanwhile leaves a claim that runs out, and the call is repeated, which changes nothing at
//! data-collector. Whatever goes wrong with a call counts as data-collector being away: while calls fail, one deletion
//! at a time is tried, so that a data-collector that is down or overloaded is not rushed.

use std::time::Duration;

use anyhow::{Context, bail};
use grpc_edge::IdentifiedChannel;
use pg::jobs::{Failure, Handler, Job, Settings};
use proto::v1::{UserRequest, data_collector_service_client::DataCollectorServiceClient};
use runtime::{ServiceRuntime, fault};
use tonic::transport::Endpoint;

use crate::store::Deletion;

/// How many deletions are called out at once.
const AT_ONCE: usize = 16;
/// How long one call may take: longer than [`grpc_edge::DEADLINE`].
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// How long settled deletions are kept, without addresses, so that it can be seen what happened.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Relays deletions.
pub struct Relay {
    data_collector: DataCollectorServiceClient<IdentifiedChannel>,
}

/// How deletions are relayed. No wait is long: a call costs next to nothing, and interests should not outlive their
/// user by much once data-collector is back.
#[must_use]
pub fn settings() -> Settings {
    Settings { batch: AT_ONCE, limit: CALL_LIMIT, kept_for: Some(RETENTION), ..Settings::default() }
}

impl Relay {
    /// A relay to data-collector. `/readyz` names it from now on, without deciding by it.
    #[must_use]
    pub fn new(runtime: &ServiceRuntime, data_collector: Endpoint) -> Self {
        let channel = grpc_edge::channel(runtime.service, data_collector);
        grpc_edge::name_in_readiness(runtime, "data-collector", channel.clone());
        Self { data_collector: DataCollectorServiceClient::new(channel) }
    }

    /// How many interests data-collector removed.
    async fn call(&self, job: &Job<Deletion>) -> anyhow::Result<i64> {
        let message = UserRequest { email: job.payload.email.clone(), user_id: Some(job.key.clone()) };
        let called = self.data_collector.clone().delete_user_interests(grpc_edge::request(message, &job.context)).await;
        match called.map(tonic::Response::into_inner) {
            Ok(answer) if answer.success => Ok(answer.deleted_count),
            Ok(_) => bail!("it answered without success"),
            // The message of a status could repeat the address that it is about.
            Err(status) => bail!("{}", status.code().description()),
        }
    }
}

impl Handler for Relay {
    type Payload = Deletion;

    async fn handle(&self, job: &Job<Deletion>) -> Result<(), Failure> {
        let removed = self.call(job).await.context("tell data-collector of a deletion");
        let removed = removed.map_err(Failure::Unavailable)?;
        tracing::info!(user.id = job.key, "data-collector removed {removed} interests of a deleted user");
        fault::point("user-manager.relayed-not-recorded");
        Ok(())
    }
}
