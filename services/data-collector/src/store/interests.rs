//! Interests. Each change enqueues what it causes, in the same transaction.

use chrono::{DateTime, Utc};
use events::{EmailAddress, Metric};
use pg::{begin_as, jobs::NewJob};
use runtime::{principal::Principal, trace::RequestContext};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Store, flight_count, flights, integer, metric, optional_flight_count,
    outbox::{EVALUATION, Evaluation, REMOVAL, Removal},
};
use crate::core::interest::{Change, Coverage, Refused, Thresholds};

/// What a user wants to be told about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// Where that person is told.
    pub user_email: String,
    /// ICAO code.
    pub airport: String,
    /// What is counted.
    pub metric: Metric,
    /// When to tell.
    pub thresholds: Thresholds,
    /// Rises when the thresholds change.
    pub version: i64,
}

/// An interest as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedInterest {
    /// Its id.
    pub id: Uuid,
    /// ICAO code.
    pub airport_code: String,
    /// What is counted, as it was stored: it may be a metric of a newer version.
    pub metric: String,
    /// When to tell.
    pub thresholds: Thresholds,
    /// When its airport is planned to be collected; none before the first plan.
    pub next_at: Option<DateTime<Utc>>,
}

/// An interest as it is stored.
pub(super) struct InterestRow {
    pub(super) id: Uuid,
    pub(super) user_id: Uuid,
    pub(super) user_email: String,
    pub(super) airport_code: String,
    pub(super) metric: String,
    pub(super) high_value: Option<i32>,
    pub(super) low_value: Option<i32>,
    pub(super) version: i64,
}

impl TryFrom<InterestRow> for Interest {
    type Error = sqlx::Error;

    fn try_from(row: InterestRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.id,
            user_id: row.user_id,
            user_email: row.user_email,
            airport: row.airport_code,
            metric: metric(&row.metric)?,
            thresholds: thresholds(row.high_value, row.low_value)?,
            version: row.version,
        })
    }
}

/// Thresholds as they are stored.
pub(super) fn thresholds(high: Option<i32>, low: Option<i32>) -> sqlx::Result<Thresholds> {
    Ok(Thresholds { high: optional_flight_count(high)?, low: optional_flight_count(low)? })
}

/// Names one interest of a person.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Whose it is.
    pub user_id: Uuid,
    /// ICAO code.
    pub airport: &'a str,
    /// What is counted.
    pub metric: Metric,
}

/// What became of an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was added.
    Created,
    /// It was there already, and is as it was.
    Exists,
    /// The user has been deleted.
    UserDeleted,
    /// The user has as many as anybody may have.
    TooMany,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The thresholds are as asked for.
    Done,
    /// There is no such interest.
    NotFound,
    /// The thresholds would make no sense.
    Refused(Refused),
}

/// Adds an interest, and has it evaluated.
///
/// # Errors
/// When the database is away.
pub async fn add(
    connection: &mut PgConnection,
    named: Named<'_>,
    email: &EmailAddress,
    thresholds: Thresholds,
    limit: i64,
    now: DateTime<Utc>,
    context: &RequestContext,
) -> sqlx::Result<Added> {
    lock_user(connection, named.user_id).await?;
    let user = sqlx::query!(
        r#"SELECT EXISTS (SELECT 1 FROM deleted_users WHERE user_id = $1) AS "deleted!",
                  EXISTS (SELECT 1 FROM interests WHERE user_id = $1 AND airport_code = $2 AND metric = $3) AS "known!",
                  (SELECT count(*) FROM interests WHERE user_id = $1) AS "interests!""#,
        named.user_id,
        named.airport,
        named.metric.as_str(),
    )
    .fetch_one(&mut *connection)
    .await?;
    if user.deleted {
        return Ok(Added::UserDeleted);
    }
    if user.known {
        return Ok(Added::Exists);
    }
    if user.interests >= limit {
        return Ok(Added::TooMany);
    }
    let id = Uuid::now_v7();
    sqlx::query!(
        "INSERT INTO interests (id, user_id, user_email, airport_code, metric, high_value, low_value, version,
                                created_at, updated_at, request_id, traceparent)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8, $9, $10)",
        id,
        named.user_id,
        email.as_str(),
        named.airport,
        named.metric.as_str(),
        thresholds.high.map(integer),
        thresholds.low.map(integer),
        now,
        context.request_id,
        context.traceparent,
    )
    .execute(&mut *connection)
    .await?;
    cause_evaluation(connection, id, context).await?;
    Ok(Added::Created)
}

/// Changes thresholds. When that makes a difference, the version rises and the interest is evaluated.
///
/// # Errors
/// When the database is away.
pub async fn change(
    connection: &mut PgConnection,
    named: Named<'_>,
    [high, low]: [Change; 2],
    now: DateTime<Utc>,
    context: &RequestContext,
) -> sqlx::Result<Changed> {
    let row = sqlx::query!(
        "SELECT id, high_value, low_value FROM interests
         WHERE user_id = $1 AND airport_code = $2 AND metric = $3 FOR UPDATE",
        named.user_id,
        named.airport,
        named.metric.as_str(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(Changed::NotFound) };
    let before = thresholds(row.high_value, row.low_value)?;
    let after = match before.changed(high, low) {
        Ok(after) => after,
        Err(refused) => return Ok(Changed::Refused(refused)),
    };
    if after == before {
        return Ok(Changed::Done);
    }
    sqlx::query!(
        "UPDATE interests
         SET high_value = $2, low_value = $3, version = version + 1, updated_at = $4, request_id = $5, traceparent = $6
         WHERE id = $1",
        row.id,
        after.high.map(integer),
        after.low.map(integer),
        now,
        context.request_id,
        context.traceparent,
    )
    .execute(&mut *connection)
    .await?;
    cause_evaluation(connection, row.id, context).await?;
    Ok(Changed::Done)
}

/// Removes an interest, and has that told. Answers whether there was one.
///
/// # Errors
/// When the database is away.
pub async fn remove(connection: &mut PgConnection, named: Named<'_>, context: &RequestContext) -> sqlx::Result<bool> {
    let removed = sqlx::query_as!(
        Removal,
        "DELETE FROM interests WHERE user_id = $1 AND airport_code = $2 AND metric = $3
         RETURNING id AS interest_id, airport_code AS airport, metric",
        named.user_id,
        named.airport,
        named.metric.as_str(),
    );
    let removed = removed.fetch_all(&mut *connection).await?;
    Ok(cause_removals(connection, removed, context).await? > 0)
}

/// Forgets what caused these versions of these interests: a number has been sent for them, and it said
/// so, or none will ever be sent.
///
/// # Errors
/// When the database is away.
pub async fn forget_contexts(connection: &mut PgConnection, told: &[(Uuid, i64)]) -> sqlx::Result<()> {
    if told.is_empty() {
        return Ok(());
    }
    let (ids, versions): (Vec<Uuid>, Vec<i64>) = told.iter().copied().unzip();
    // A transaction that holds a row changes or removes the interest, or forgets the cause as well: no need to wait.
    sqlx::query!(
        "UPDATE interests SET request_id = NULL, traceparent = NULL WHERE id IN (
             SELECT i.id FROM interests i
             JOIN unnest($1::uuid[], $2::bigint[]) AS told (id, version) ON told.id = i.id AND told.version = i.version
             FOR UPDATE OF i SKIP LOCKED
         )",
        &ids,
        &versions,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// An addition, a change and a deletion of one user's follow one another.
async fn lock_user(connection: &mut PgConnection, user_id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('user ' || $1::text, 1))", user_id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes every interest of these users, whom the transaction has locked.
async fn remove_all(connection: &mut PgConnection, user_ids: &[Uuid], context: &RequestContext) -> sqlx::Result<u64> {
    let removed = sqlx::query_as!(
        Removal,
        "DELETE FROM interests WHERE user_id = ANY($1) RETURNING id AS interest_id, airport_code AS airport, metric",
        user_ids,
    );
    let removed = removed.fetch_all(&mut *connection).await?;
    cause_removals(connection, removed, context).await
}

/// Has removals told. The collection is woken by the database, when an airport's metric ceases to be watched. Answers
/// how many there were.
async fn cause_removals(
    connection: &mut PgConnection,
    removed: Vec<Removal>,
    context: &RequestContext,
) -> sqlx::Result<u64> {
    let jobs: Vec<_> = removed.into_iter().map(|removal| NewJob::new(removal.interest_id, removal)).collect();
    if !jobs.is_empty() {
        REMOVAL.enqueue(connection, &jobs, context).await?;
    }
    Ok(u64::try_from(jobs.len()).unwrap_or(u64::MAX))
}

/// Has an interest evaluated. The collection is woken by the database, when an airport's metric begins to be watched.
async fn cause_evaluation(
    connection: &mut PgConnection,
    interest_id: Uuid,
    context: &RequestContext,
) -> sqlx::Result<()> {
    EVALUATION.enqueue(connection, &[NewJob::new(interest_id, Evaluation { interest_id })], context).await
}

impl Store {
    /// A person's interests in the order of their ids, and when their airports are planned to be
    /// collected next.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn interests_of(&self, user_id: Uuid) -> sqlx::Result<Vec<PlannedInterest>> {
        let rows = sqlx::query!(
            r#"SELECT i.id AS "id!", i.airport_code AS "airport_code!", i.metric AS "metric!", i.high_value, i.low_value,
                   s.next_at AS "next_at?"
               FROM interests i LEFT JOIN schedule s ON s.airport_code = i.airport_code
                   AND s.kind = CASE WHEN i.metric = 'live' THEN 'live' ELSE 'daily' END
               WHERE i.user_id = $1 ORDER BY i.id"#,
            user_id,
        )
        .fetch_all(self.pool())
        .await?;
        let interests = rows.into_iter().map(|row| {
            Ok(PlannedInterest {
                id: row.id,
                airport_code: row.airport_code,
                metric: row.metric,
                thresholds: thresholds(row.high_value, row.low_value)?,
                next_at: row.next_at,
            })
        });
        interests.collect()
    }

    /// Removes every interest of a registration that has ended, and refuses new ones for it from then
    /// on. Answers how many there were.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn delete_user(
        &self,
        principal: &Principal,
        user_id: Uuid,
        now: DateTime<Utc>,
        context: &RequestContext,
    ) -> sqlx::Result<u64> {
        let mut transaction = begin_as(self.pool(), principal).await?;
        lock_user(&mut transaction, user_id).await?;
        sqlx::query!(
            "INSERT INTO deleted_users (user_id, deleted_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            user_id,
            now,
        )
        .execute(&mut *transaction)
        .await?;
        let removed = remove_all(&mut transaction, &[user_id], context).await?;
        transaction.commit().await?;
        Ok(removed)
    }

    /// Removes every interest under an address, whichever registration it is of. New ones are taken: an address names
    /// no user for ever. Answers how many there were.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn remove_under(
        &self,
        principal: &Principal,
        email: &EmailAddress,
        context: &RequestContext,
    ) -> sqlx::Result<u64> {
        let mut transaction = begin_as(self.pool(), principal).await?;
        let found = sqlx::query_scalar!(
            "SELECT DISTINCT user_id FROM interests WHERE user_email = $1 ORDER BY user_id",
            email.as_str(),
        );
        let user_ids = found.fetch_all(&mut *transaction).await?;
        for user_id in &user_ids {
            lock_user(&mut transaction, *user_id).await?;
        }
        let removed = remove_all(&mut transaction, &user_ids, context).await?;
        transaction.commit().await?;
        Ok(removed)
    }
}

/// What our own data say about how well an airport is seen.
///
/// # Errors
/// When the database is away.
pub async fn coverage(connection: &mut PgConnection, airport: &str, metric: Metric) -> sqlx::Result<Coverage> {
    if metric == Metric::Live {
        let row = sqlx::query!("SELECT looked, seen FROM series WHERE airport_code = $1 AND metric = 'live'", airport)
            .fetch_optional(connection)
            .await?;
        let Some(row) = row else { return Ok(Coverage::default()) };
        return Ok(Coverage { observations: row.looked, flight_count: flight_count(row.seen)? });
    }
    let held = flights::days_held(connection, airport).await?;
    Ok(Coverage { observations: held.days, flight_count: held.flight_count })
}
