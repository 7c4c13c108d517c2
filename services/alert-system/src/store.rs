//! The levels in PostgreSQL.

use std::collections::HashMap;

use events::topics::{DEAD_LETTER_RETENTION, TO_ALERT_SYSTEM, days};
use pg::{Pool, clock::SteadyClock};
use uuid::Uuid;

use crate::core::{Data, Level, Sequence, State};

/// How long the row of a removed interest stays: a day longer than Kafka keeps anything that may still be
/// about it. A reading may be a dead letter first, and wait on its topic once more when it is replayed.
const REMOVED_KEPT_DAYS: i32 =
    ((DEAD_LETTER_RETENTION.as_secs() + TO_ALERT_SYSTEM.retention.as_secs()) / days(1).as_secs()) as i32 + 1;

/// The levels in PostgreSQL.
#[derive(Clone)]
pub struct LevelStore {
    pool: Pool,
}

/// The rows that a batch changed, each id once.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// By interest.
    pub interests: Vec<(Uuid, State)>,
    /// By identity of the legacy format.
    pub legacy: Vec<(Uuid, State)>,
}

impl LevelStore {
    /// The levels in the database behind `pool`.
    #[must_use]
    pub fn new(pool: impl Into<Pool>) -> Self {
        Self { pool: pool.into() }
    }

    /// Where these interests stand; those without a row are not in the answer.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn of_interests(&self, ids: &[Uuid]) -> sqlx::Result<HashMap<Uuid, State>> {
        let rows = sqlx::query!(
            r#"SELECT interest_id, level, no_data, version, seq, removed_at IS NOT NULL AS "removed!"
               FROM levels WHERE interest_id = ANY($1)"#,
            ids
        );
        let rows = rows.fetch_all(&self.pool).await?;
        rows.into_iter()
            .map(|row| {
                let last = row.version.zip(row.seq).map(|(major, minor)| Sequence { major, minor });
                Ok((row.interest_id, state(&row.level, row.no_data, last, row.removed)?))
            })
            .collect()
    }

    /// Where these identities of the legacy format stand, with the newest offset of `partition`.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn of_identities(&self, partition: i32, ids: &[Uuid]) -> sqlx::Result<HashMap<Uuid, State>> {
        let rows = sqlx::query!(
            "SELECT identity, level, no_data, (positions ->> $2::text)::bigint AS last_offset
             FROM bare_levels WHERE identity = ANY($1)",
            ids,
            partition.to_string()
        );
        let rows = rows.fetch_all(&self.pool).await?;
        rows.into_iter()
            .map(|row| {
                let last = row.last_offset.map(|minor| Sequence { major: i64::from(partition), minor });
                Ok((row.identity, state(&row.level, row.no_data, last, false)?))
            })
            .collect()
    }

    /// Stores rows, except where something newer is stored already: a former owner of a partition
    /// may come late.
    ///
    /// # Errors
    /// When the database cannot be asked. Some rows may be stored then; storing all of them again
    /// is harmless.
    pub async fn store(&self, rows: &Rows) -> sqlx::Result<()> {
        if !rows.interests.is_empty() {
            self.store_interests(&Columns::of(&rows.interests)).await?;
        }
        if !rows.legacy.is_empty() {
            self.store_legacy(&Columns::of(&rows.legacy)).await?;
        }
        Ok(())
    }

    async fn store_interests(&self, new: &Columns) -> sqlx::Result<()> {
        sqlx::query!(
            "INSERT INTO levels AS stored (interest_id, level, no_data, version, seq, removed_at)
             SELECT id, level, no_data, version, seq, CASE WHEN removed THEN now() END
             FROM unnest($1::uuid[], $2::text[], $3::boolean[], $4::bigint[], $5::bigint[], $6::boolean[])
                  AS new (id, level, no_data, version, seq, removed)
             ON CONFLICT (interest_id) DO UPDATE
             SET level = excluded.level, no_data = excluded.no_data, version = excluded.version,
                 seq = excluded.seq, removed_at = excluded.removed_at
             WHERE stored.removed_at IS NULL
               AND (excluded.removed_at IS NOT NULL
                    OR (stored.version, stored.seq) < (excluded.version, excluded.seq))",
            &new.ids,
            &new.levels as _,
            &new.no_data,
            &new.majors as _,
            &new.minors as _,
            &new.removed
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }

    async fn store_legacy(&self, new: &Columns) -> sqlx::Result<()> {
        sqlx::query!(
            "INSERT INTO bare_levels AS stored (identity, level, no_data, positions)
             SELECT id, level, no_data, jsonb_build_object(partition::text, last_offset)
             FROM unnest($1::uuid[], $2::text[], $3::boolean[], $4::bigint[], $5::bigint[])
                  AS new (id, level, no_data, partition, last_offset)
             ON CONFLICT (identity) DO UPDATE
             SET level = excluded.level, no_data = excluded.no_data,
                 positions = stored.positions || excluded.positions
             WHERE NOT EXISTS (
                 SELECT FROM jsonb_each_text(excluded.positions) AS new (partition, last_offset)
                 WHERE (stored.positions ->> new.partition)::bigint >= new.last_offset::bigint)",
            &new.ids,
            &new.levels as _,
            &new.no_data,
            &new.majors as _,
            &new.minors as _
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// Deletes the rows of interests that were removed so long ago, by a `clock` that may be trusted, that no message
    /// can be about them. Answers how many there were. A row that is deleted too early lets a late message revive its
    /// interest.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn forget_removed(&self, clock: &SteadyClock) -> sqlx::Result<u64> {
        let Some(mut transaction) = clock.begin(&self.pool).await? else { return Ok(0) };
        let deleted =
            sqlx::query!("DELETE FROM levels WHERE removed_at < now() - make_interval(days => $1)", REMOVED_KEPT_DAYS);
        let deleted = deleted.execute(&mut *transaction).await?.rows_affected();
        transaction.commit().await?;
        Ok(deleted)
    }
}

/// The same rows column by column, as `unnest` takes them.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    levels: Vec<&'static str>,
    no_data: Vec<bool>,
    majors: Vec<Option<i64>>,
    minors: Vec<Option<i64>>,
    removed: Vec<bool>,
}

impl Columns {
    /// Sorted by id, so that two workers that store the same rows do not block each other for ever.
    fn of(rows: &[(Uuid, State)]) -> Self {
        let mut rows: Vec<_> = rows.iter().collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        let mut columns = Self::default();
        for (id, state) in rows {
            columns.ids.push(*id);
            columns.levels.push(state.level.as_str());
            columns.no_data.push(state.data == Data::Missing);
            columns.majors.push(state.last.map(|last| last.major));
            columns.minors.push(state.last.map(|last| last.minor));
            columns.removed.push(state.removed);
        }
        columns
    }
}

fn state(level: &str, no_data: bool, last: Option<Sequence>, removed: bool) -> sqlx::Result<State> {
    let level = Level::from_name(level)
        .ok_or_else(|| sqlx::Error::Decode(format!("the stored level {level:?} is unknown").into()))?;
    Ok(State { level, data: if no_data { Data::Missing } else { Data::Ok }, last, removed })
}
