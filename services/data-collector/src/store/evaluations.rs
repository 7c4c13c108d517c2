//! What an interest is judged by when it is new or changed.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Reading,
    interests::{Interest, InterestRow},
    metric, optional_flight_count,
};

/// An interest as it is now, and the reading with a value that it is judged by, however old.
pub struct Judged {
    /// The interest.
    pub interest: Interest,
    /// The reading.
    pub reading: Option<Reading>,
}

/// What evaluations of these interests are about; those that were removed since are not there. One that cannot be read
/// has its own error.
///
/// An interest is judged by the newest reading, but never ahead of one that was stored after the interest was
/// added or changed and still waits for the fan-out: that one would come late and count as stale, and the user would
/// not be told what it says. Only the oldest that waits may be the judge, since its page may be on its way without the
/// interest; both then send the same message.
///
/// # Errors
/// When the database is away.
pub async fn judged(connection: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<HashMap<Uuid, sqlx::Result<Judged>>> {
    // A statement after the claim: the interest must be read after the job is locked.
    let rows = sqlx::query!(
        r#"SELECT i.id AS "id!", i.user_id AS "user_id!", i.user_email AS "user_email!",
                  i.airport_code AS "airport_code!", i.metric AS "metric!", i.high_value, i.low_value,
                  i.version AS "version!",
                  r.id AS "reading_id?", r.seq AS "seq?", r.value AS "value?", r.window_begin AS "window_begin?",
                  r.window_end AS "window_end?", r.observed_at AS "observed_at?", r.source AS "source?"
           FROM interests i
           LEFT JOIN series s ON s.airport_code = i.airport_code AND s.metric = i.metric
           LEFT JOIN LATERAL (
               SELECT greatest(min(f.seq), i.judged_from) AS seq
               FROM fan_outs f WHERE f.airport_code = i.airport_code AND f.metric = i.metric HAVING count(*) > 0
           ) last ON true
           LEFT JOIN LATERAL (
               SELECT * FROM readings
               WHERE readings.airport_code = i.airport_code AND readings.metric = i.metric AND readings.value IS NOT NULL
                 AND readings.seq <= least(s.newest_valued_seq, last.seq)
               ORDER BY readings.seq DESC LIMIT 1
           ) r ON true
           WHERE i.id = ANY ($1)"#,
        ids,
    )
    .fetch_all(connection)
    .await?;
    let mut judged = HashMap::with_capacity(rows.len());
    for row in rows {
        let reading = row.reading_id.zip(row.seq).zip(row.window_begin).zip(row.window_end).zip(row.observed_at);
        let reading = reading.zip(row.source);
        let one = metric(&row.metric).and_then(|metric| {
            let flight_count = optional_flight_count(row.value)?;
            let reading = reading.map(|(((((id, seq), window_begin), window_end), observed_at), source)| Reading {
                id,
                airport: row.airport_code.clone(),
                metric,
                seq,
                flight_count,
                window_begin,
                window_end,
                observed_at,
                source,
            });
            let interest = InterestRow {
                id: row.id,
                user_id: row.user_id,
                user_email: row.user_email,
                airport_code: row.airport_code,
                metric: row.metric,
                high_value: row.high_value,
                low_value: row.low_value,
                version: row.version,
            };
            Ok(Judged { interest: interest.try_into()?, reading })
        });
        judged.insert(row.id, one);
    }
    Ok(judged)
}
