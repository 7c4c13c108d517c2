//! Tells user-manager what a person was not told, so that the person can see it.
//!
//! The ledger enqueues each change in its own transaction, one job for a registration at most. user-manager keeps the
//! newest version, so replicas may call in any order, and a repeated call changes nothing.

use std::time::Duration;

use anyhow::Context;
use pg::jobs::{Failure, Handler, Job, Settings};
use runtime::backoff::Backoff;

use crate::{
    store::{Store, UndeliveredReport},
    user_client::UserClient,
};

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// No user waits for a report, and a version of user-manager that knows none may run for a while.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// How reports are made.
#[must_use]
pub fn settings() -> Settings {
    Settings { limit: CALL_LIMIT, pauses: PAUSES, ..Settings::default() }
}

/// Reports to user-manager.
pub struct Reports {
    /// Where the numbers are.
    pub store: Store,
    /// user-manager.
    pub user_client: UserClient,
}

impl Handler for Reports {
    type Payload = UndeliveredReport;

    async fn handle(&self, job: &Job<UndeliveredReport>) -> Result<(), Failure> {
        let user_id = job.key.parse().context("read a registration's id").map_err(Failure::Permanent)?;
        // After the claim: the numbers are at least as new as the version.
        let report = self.store.undelivered(user_id, job.payload.version).await?;
        let reported = self.user_client.report_undelivered(&report).await;
        reported.context("report undelivered alerts").map_err(Failure::Unavailable)
    }
}
