//! What changes of interests still have to cause: jobs, whose keys are the interests' ids.

use chrono::{DateTime, Utc};
use events::Metric;
use pg::jobs::Kind;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{notify, wake};

/// An interest that was added or changed is to be judged by what is known.
pub const EVALUATION: Kind<Evaluation> = Kind::new("evaluation");
/// The removal of an interest is to be told, after every evaluation of it.
pub const REMOVAL: Kind<Removal> = Kind::new("removal");

/// What an evaluation is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// The interest.
    pub interest_id: Uuid,
}

/// What a removal is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Removal {
    /// The interest.
    pub interest_id: Uuid,
    /// Its series.
    pub airport: String,
    /// Its series, as it was stored: it may be a metric of a newer version.
    pub metric: String,
}

/// Asks the leader to collect these airports and metrics. Asking twice is asking once.
///
/// # Errors
/// When the database is away.
pub async fn request_collections(
    connection: &mut PgConnection,
    wanted: &[(&str, Metric)],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let airports: Vec<&str> = wanted.iter().map(|(airport, _)| *airport).collect();
    let metrics: Vec<&str> = wanted.iter().map(|(_, metric)| metric.as_str()).collect();
    // In one order everywhere, so that two replicas cannot wait for each other.
    let requested = sqlx::query!(
        "INSERT INTO collection_requests (airport_code, metric, requested_at)
         SELECT DISTINCT wanted.*, $3::timestamptz FROM unnest($1::text[], $2::text[]) wanted ORDER BY 1, 2
         ON CONFLICT DO NOTHING",
        &airports as &[&str],
        &metrics as &[&str],
        now,
    )
    .execute(&mut *connection)
    .await?;
    if requested.rows_affected() == 0 {
        return Ok(());
    }
    notify(connection, wake::COLLECT).await
}
