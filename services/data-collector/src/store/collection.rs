//! What the leader knows and records: needs, credits, published days, and when airports were tried.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use events::{FlightCount, Metric};
use sqlx::PgConnection;

use super::{Store, flight_count};
use crate::core::{
    credits::{Bucket, Credits, Tier},
    day::{self, Direction},
    geo::Position,
    plan::{DailyNeed, Kind, LiveNeed, Probed, Situation},
    reading,
};

/// The situation to plan by, and what belongs to it outside the plan.
pub struct Known {
    /// The situation.
    pub situation: Situation,
    /// What is watched, by airport.
    pub watches: HashMap<String, Watch>,
    /// Metrics that are watched and that this version does not know.
    pub unknown_metrics: BTreeSet<String>,
}

/// What is watched at one airport.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Metrics that an interest names.
    pub metrics: Vec<Metric>,
    /// Those that a user waits for.
    pub requested: Vec<Metric>,
}

/// The last time an airport was tried.
#[derive(Clone, Copy)]
struct CollectionAttempt {
    at: DateTime<Utc>,
    /// How many in a row, up to this one, had no answer.
    failures: u32,
}

impl Store {
    /// Everything that the plan depends on at `now`; `alone` are airports that share no box.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn known(
        &self,
        now: DateTime<Utc>,
        interval: TimeDelta,
        tier: Tier,
        locate: impl Fn(&str) -> Option<Position>,
        alone: &BTreeSet<String>,
    ) -> sqlx::Result<Known> {
        let (watches, unknown_metrics) = self.watches().await?;
        let attempts = self.attempts().await?;
        let held = self.newest_days().await?;
        let yesterday = day::yesterday(now);
        let mut live = Vec::new();
        let mut daily = Vec::new();
        for (airport, watch) in &watches {
            let attempt = |kind: Kind| attempts.get(&(airport.clone(), kind)).copied();
            let attempted_at = |kind| attempt(kind).map(|attempt| attempt.at);
            let requested = |live: bool| watch.requested.iter().any(|of| (*of == Metric::Live) == live);
            if let Some(position) = locate(airport).filter(|_| watch.metrics.contains(&Metric::Live)) {
                live.push(LiveNeed {
                    airport: airport.clone(),
                    position,
                    attempted_at: attempted_at(Kind::Live),
                    requested: requested(true),
                    alone: alone.contains(airport),
                });
            }
            let needed = Direction::ALL
                .into_iter()
                .filter(|direction| watch.metrics.iter().any(|of| reading::directions(*of).contains(direction)));
            let directions: Vec<_> = needed
                .map(|direction| (direction, held.get(&(airport.clone(), direction.as_str())).map(|held| held.0)))
                .collect();
            if !directions.is_empty() {
                let traffic = |(direction, _): &(Direction, Option<NaiveDate>)| {
                    held.get(&(airport.clone(), direction.as_str())).map_or(FlightCount::ZERO, |held| held.1)
                };
                daily.push(DailyNeed {
                    airport: airport.clone(),
                    traffic: directions.iter().map(traffic).sum(),
                    directions,
                    attempted_at: attempted_at(Kind::Daily),
                    failures: attempt(Kind::Daily).map_or(0, |attempt| attempt.failures),
                    requested: requested(false),
                    // Not kept here: the leader remembers it.
                    probed: Probed::default(),
                });
            }
        }
        live.sort_by(|one, other| one.airport.cmp(&other.airport));
        daily.sort_by(|one, other| one.airport.cmp(&other.airport));
        let situation = Situation {
            now,
            interval,
            tier,
            states: self.credits(Bucket::States, tier, now).await?,
            flights: self.credits(Bucket::Flights, tier, now).await?,
            cycle_begun_at: self.cycle_begun_at(Kind::Live).await?,
            live,
            daily,
            yesterday_published_at: self.published_at(yesterday).await?,
            before_published_at: self.published_at(day::before(yesterday)).await?,
            probed_at: self.probed_at(yesterday).await?,
            // Not kept here: the leader remembers it.
            probe_deferred_at: None,
        };
        Ok(Known { situation, watches, unknown_metrics })
    }

    /// What is watched, by airport, and the metrics that this version does not know: those are for the replicas that do.
    async fn watches(&self) -> sqlx::Result<(HashMap<String, Watch>, BTreeSet<String>)> {
        let mut watches: HashMap<String, Watch> = HashMap::new();
        let mut unknown = BTreeSet::new();
        // In one order everywhere: readings lock their series in it.
        let watched = sqlx::query!("SELECT airport_code, metric FROM watched_series ORDER BY airport_code, metric")
            .fetch_all(self.pool())
            .await?;
        for row in watched {
            let Ok(metric) = row.metric.parse() else {
                unknown.insert(row.metric);
                continue;
            };
            watches.entry(row.airport_code).or_default().metrics.push(metric);
        }
        let requested =
            sqlx::query!("SELECT airport_code, metric FROM collection_requests ORDER BY airport_code, metric")
                .fetch_all(self.pool())
                .await?;
        for row in requested {
            let Ok(requested) = row.metric.parse() else { continue };
            // A request outlives an interest that was removed meanwhile; then no user waits. And one that came between
            // the two questions has its turn with its interest.
            if let Some(watch) = watches.get_mut(&row.airport_code).filter(|watch| watch.metrics.contains(&requested)) {
                watch.requested.push(requested);
            }
        }
        Ok((watches, unknown))
    }

    async fn attempts(&self) -> sqlx::Result<HashMap<(String, Kind), CollectionAttempt>> {
        let rows = sqlx::query!(
            r#"SELECT airport_code, kind, attempted_at AS "attempted_at!", failures FROM schedule
               WHERE attempted_at IS NOT NULL"#
        )
        .fetch_all(self.pool())
        .await?;
        let attempts = rows.into_iter().map(|row| {
            let attempt =
                CollectionAttempt { at: row.attempted_at, failures: u32::try_from(row.failures).unwrap_or_default() };
            ((row.airport_code, kind(&row.kind)), attempt)
        });
        Ok(attempts.collect())
    }

    /// The newest day held of each airport and direction, and how many flights it has.
    async fn newest_days(&self) -> sqlx::Result<HashMap<(String, &'static str), (NaiveDate, FlightCount)>> {
        let rows = sqlx::query!(
            "SELECT airport_code, direction, day, flights FROM newest_days
             WHERE airport_code IN (SELECT airport_code FROM watched_series)"
        )
        .fetch_all(self.pool())
        .await?;
        let direction = |name: &str| {
            let known = Direction::ALL.into_iter().find(|direction| direction.as_str() == name);
            known.map_or("", Direction::as_str)
        };
        rows.into_iter()
            .map(|row| Ok(((row.airport_code, direction(&row.direction)), (row.day, flight_count(row.flights)?))))
            .collect()
    }

    /// What is left in a bucket at `now`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn credits(&self, bucket: Bucket, tier: Tier, now: DateTime<Utc>) -> sqlx::Result<Credits> {
        let row = sqlx::query!(
            "SELECT day, remaining, from_header, seen_cost, told_at, paused_until, paused_at, refusals
             FROM credits WHERE bucket = $1",
            bucket.as_str(),
        )
        .fetch_optional(self.pool())
        .await?;
        let unsigned = |number: i32| u32::try_from(number).unwrap_or_default();
        let stored = row.map(|row| Credits {
            day: row.day,
            remaining: unsigned(row.remaining),
            from_header: row.from_header,
            seen_cost: row.seen_cost.map(unsigned).filter(|cost| *cost > 0),
            told_at: row.told_at,
            paused_until: row.paused_until,
            paused_at: row.paused_at,
            refusals: unsigned(row.refusals),
        });
        Ok(stored.map_or_else(|| Credits::assumed(tier, now), |stored| stored.at(bucket, tier, now)))
    }

    /// How many aircraft were counted around each of these airports the last time, where that was since `since`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn last_counts(
        &self,
        airports: &[&str],
        since: DateTime<Utc>,
    ) -> sqlx::Result<HashMap<String, FlightCount>> {
        let rows = sqlx::query!(
            r#"SELECT r.airport_code, r.value AS "value!"
               FROM series s JOIN readings r
                   ON r.airport_code = s.airport_code AND r.metric = s.metric AND r.seq = s.newest_valued_seq
               WHERE s.airport_code = ANY ($1) AND s.metric = 'live' AND r.observed_at >= $2"#,
            airports as &[&str],
            since,
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(|row| Ok((row.airport_code, flight_count(row.value)?))).collect()
    }

    async fn cycle_begun_at(&self, kind: Kind) -> sqlx::Result<Option<DateTime<Utc>>> {
        sqlx::query_scalar!("SELECT begun_at FROM cycles WHERE kind = $1", kind.as_str())
            .fetch_optional(self.pool())
            .await
    }

    /// Since when a day is known to be published.
    async fn published_at(&self, day: NaiveDate) -> sqlx::Result<Option<DateTime<Utc>>> {
        sqlx::query_scalar!("SELECT seen_at FROM published_days WHERE day = $1", day).fetch_optional(self.pool()).await
    }

    async fn probed_at(&self, day: NaiveDate) -> sqlx::Result<Option<DateTime<Utc>>> {
        sqlx::query_scalar!("SELECT probed_at FROM probes WHERE day = $1", day).fetch_optional(self.pool()).await
    }
}

/// A kind as it was stored: there are two.
fn kind(name: &str) -> Kind {
    if name == Kind::Live.as_str() { Kind::Live } else { Kind::Daily }
}

/// Records when airports will be collected next; only what changed is locked and written.
///
/// # Errors
/// When the database is away.
pub async fn record_plan(connection: &mut PgConnection, next_at: &[(String, Kind, DateTime<Utc>)]) -> sqlx::Result<()> {
    let airports: Vec<&str> = next_at.iter().map(|(airport, ..)| airport.as_str()).collect();
    let kinds: Vec<&str> = next_at.iter().map(|(_, kind, _)| kind.as_str()).collect();
    let times: Vec<_> = next_at.iter().map(|(.., at)| *at).collect();
    sqlx::query!(
        "INSERT INTO schedule (airport_code, kind, next_at)
         SELECT planned.* FROM unnest($1::text[], $2::text[], $3::timestamptz[]) planned (airport_code, kind, next_at)
         LEFT JOIN schedule known USING (airport_code, kind)
         WHERE known.next_at IS DISTINCT FROM planned.next_at OR known.airport_code IS NULL
         ON CONFLICT (airport_code, kind) DO UPDATE SET next_at = excluded.next_at",
        &airports as &[&str],
        &kinds as &[&str],
        &times,
    )
    .execute(&mut *connection)
    .await?;
    // What no interest names has no next time, until one names it again.
    sqlx::query!(
        "UPDATE schedule SET next_at = NULL
         WHERE next_at IS NOT NULL
             AND (airport_code, kind) NOT IN (SELECT * FROM unnest($1::text[], $2::text[]))",
        &airports as &[&str],
        &kinds as &[&str],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records what is left in a bucket.
///
/// # Errors
/// When the database is away.
pub async fn record_credits(connection: &mut PgConnection, bucket: Bucket, credits: &Credits) -> sqlx::Result<()> {
    let signed = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    sqlx::query!(
        "INSERT INTO credits
             (bucket, day, remaining, from_header, seen_cost, paused_until, told_at, paused_at, refusals)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (bucket) DO UPDATE
         SET day = excluded.day, remaining = excluded.remaining, from_header = excluded.from_header,
             seen_cost = excluded.seen_cost, paused_until = excluded.paused_until, told_at = excluded.told_at,
             paused_at = excluded.paused_at, refusals = excluded.refusals",
        bucket.as_str(),
        credits.day,
        signed(credits.remaining),
        credits.from_header,
        credits.seen_cost.map(signed),
        credits.paused_until,
        credits.told_at,
        credits.paused_at,
        signed(credits.refusals),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records that a regular cycle began.
///
/// # Errors
/// When the database is away.
pub async fn record_cycle(connection: &mut PgConnection, kind: Kind, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO cycles (kind, begun_at) VALUES ($1, $2)
         ON CONFLICT (kind) DO UPDATE SET begun_at = excluded.begun_at",
        kind.as_str(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records that an airport was tried and how many attempts in a row failed with that one.
///
/// # Errors
/// When the database is away.
pub async fn record_attempt(
    connection: &mut PgConnection,
    airport: &str,
    kind: Kind,
    now: DateTime<Utc>,
    failures: u32,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO schedule (airport_code, kind, attempted_at, failures) VALUES ($1, $2, $3, $4)
         ON CONFLICT (airport_code, kind) DO UPDATE
         SET attempted_at = excluded.attempted_at, failures = excluded.failures",
        airport,
        kind.as_str(),
        now,
        i32::try_from(failures).unwrap_or(i32::MAX),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// No user waits for these figures of the airport any more: each has a reading, stored in the same transaction, that
/// reaches also those who asked for it meanwhile. Others that were asked for meanwhile have their own turn.
///
/// # Errors
/// When the database is away.
pub async fn forget_requests(connection: &mut PgConnection, airport: &str, metrics: &[Metric]) -> sqlx::Result<()> {
    let metrics: Vec<&str> = metrics.iter().map(|metric| metric.as_str()).collect();
    // Where the interest is gone, no user waits either.
    sqlx::query!(
        "DELETE FROM collection_requests r WHERE airport_code = $1 AND (
             metric = ANY ($2) OR NOT EXISTS (
                 SELECT 1 FROM interests i WHERE i.airport_code = r.airport_code AND i.metric = r.metric
             )
         )",
        airport,
        &metrics as &[&str],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records that a day is published, or that it was found unpublished.
///
/// # Errors
/// When the database is away.
pub async fn record_day(
    connection: &mut PgConnection,
    day: NaiveDate,
    published: bool,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    if published {
        sqlx::query!("INSERT INTO published_days (day, seen_at) VALUES ($1, $2) ON CONFLICT DO NOTHING", day, now)
            .execute(connection)
            .await?;
    } else {
        sqlx::query!(
            "INSERT INTO probes (day, probed_at) VALUES ($1, $2)
             ON CONFLICT (day) DO UPDATE SET probed_at = excluded.probed_at",
            day,
            now,
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}
