//! What calls cost, and what is left of the day's credits.
//!
//! All figures are those of OpenSky's documentation: a bucket for `/states` and one for `/flights`,
//! each filled anew at midnight UTC.

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};

use super::{clock::is_ahead, geo::GeoBox};

/// What a box as large as the globe costs, and so the most that any set of airports costs.
pub const STATES_COST_OF_THE_GLOBE: u32 = 4;

/// What one direction of one airport on one finished UTC day is taken to cost until headers show it.
pub const FLIGHTS_COST: u32 = 30;

/// More than one such call can cost: a header that fell by more was lowered by another program that uses the account.
const HIGHEST_FLIGHTS_COST: u32 = 60;

/// How long a bucket rests when the source says "too many requests" but not until when.
const PAUSE_WITHOUT_HEADER: TimeDelta = TimeDelta::hours(1);

/// The shortest pause: "again in no time" must not become a question without end. Each further refusal in a
/// row doubles it, up to [`PAUSE_WITHOUT_HEADER`].
const SHORTEST_PAUSE: TimeDelta = TimeDelta::seconds(1);

/// From so many doublings on the shortest pause is the one without a header anyway.
const MOST_DOUBLINGS: u32 = 12;

/// How long a header is believed that leaves too little for a single call. An account without credits
/// refuses the next call and says until when; one that has some answers it.
const EMPTY_IS_BELIEVED_FOR: TimeDelta = TimeDelta::hours(1);

/// The share of a whole day's credits kept back for airports that are asked for the first time.
const RESERVED_SHARE: u32 = 20;

/// How much a day holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Without signing in: 400 a day.
    Anonymous,
    /// A standard account: 4,000 a day.
    Standard,
}

impl Tier {
    /// Credits of each bucket a day.
    #[must_use]
    pub const fn daily(self) -> u32 {
        match self {
            Self::Anonymous => 400,
            Self::Standard => 4_000,
        }
    }
}

/// One of the source's separate budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// For `/states`.
    States,
    /// For `/flights`.
    Flights,
}

impl Bucket {
    /// Both buckets.
    pub const ALL: [Self; 2] = [Self::States, Self::Flights];

    /// The name used in SQL and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::States => "states",
            Self::Flights => "flights",
        }
    }
}

/// What is known about one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credits {
    /// The UTC day this is about.
    pub day: chrono::NaiveDate,
    /// What is left of it.
    pub remaining: u32,
    /// Whether the source said so itself.
    pub from_header: bool,
    /// What a call turned out to cost, where two headers in a row showed it.
    pub seen_cost: Option<u32>,
    /// When the source last said so.
    pub told_at: Option<DateTime<Utc>>,
    /// The source asked for silence until then.
    pub paused_until: Option<DateTime<Utc>>,
    /// When it asked for that.
    pub paused_at: Option<DateTime<Utc>>,
    /// How often in a row it did.
    pub refusals: u32,
}

impl Credits {
    /// What is assumed before the source has said anything.
    #[must_use]
    pub fn assumed(tier: Tier, now: DateTime<Utc>) -> Self {
        Self {
            day: now.date_naive(),
            remaining: tier.daily(),
            from_header: false,
            seen_cost: None,
            told_at: None,
            paused_until: None,
            paused_at: None,
            refusals: 0,
        }
    }

    /// The same at `now`. A new day fills the bucket and ends every pause, and so does a day to come, which
    /// a clock that was ahead has written: if there is less, the next answer says so.
    #[must_use]
    pub fn at(self, bucket: Bucket, tier: Tier, now: DateTime<Utc>) -> Self {
        if self.day != now.date_naive() {
            return Self { seen_cost: self.seen_cost, ..Self::assumed(tier, now) };
        }
        let began = self.paused_at.is_none_or(|at| !is_ahead(at, now));
        let paused_until = self.paused_until.filter(|until| began && *until > now);
        let believed = Self { paused_until: paused_until.map(|until| until.min(end_of_day(now))), ..self };
        if believed.empty_until(bucket, now).is_some_and(|until| until <= now) {
            return Self { remaining: Self::evenly(tier, now), from_header: false, ..believed };
        }
        believed
    }

    /// Until when a header is believed that left too little for a call; none where there is enough.
    #[must_use]
    pub fn empty_until(&self, bucket: Bucket, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let one_call = if bucket == Bucket::States { 1 } else { self.flights_cost() };
        let told_at = self.told_at.filter(|at| !is_ahead(*at, now));
        let is_empty = self.from_header && self.remaining < one_call;
        is_empty.then(|| told_at.map_or(now, |at| at + EMPTY_IS_BELIEVED_FOR))
    }

    /// After a call that was taken to cost `cost` and came back at `now` with `header` as its remaining credits.
    #[must_use]
    pub fn after_call(self, cost: u32, header: Option<u32>, now: DateTime<Utc>) -> Self {
        let answered = Self { refusals: 0, ..self };
        let Some(header) = header else {
            return Self { remaining: self.remaining.saturating_sub(cost), ..answered };
        };
        let spent = self
            .remaining
            .checked_sub(header)
            .filter(|spent| self.from_header && (1..=HIGHEST_FLIGHTS_COST).contains(spent));
        let told_at = Some(now);
        Self { remaining: header, from_header: true, told_at, seen_cost: spent.or(self.seen_cost), ..answered }
    }

    /// After the source said "too many requests" at `now`, and perhaps for how many seconds. A pause ends with
    /// the bucket at the latest.
    #[must_use]
    pub fn after_refusal(self, now: DateTime<Utc>, seconds: Option<u64>) -> Self {
        let whole_day = TimeDelta::days(1);
        let said = seconds.map_or(PAUSE_WITHOUT_HEADER, |seconds| {
            i64::try_from(seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(whole_day).min(whole_day)
        });
        let doublings = self.refusals.min(MOST_DOUBLINGS);
        let least = (SHORTEST_PAUSE * (1 << doublings)).min(PAUSE_WITHOUT_HEADER);
        let paused_until = Some((now + said.max(least)).min(end_of_day(now)));
        Self { paused_until, paused_at: Some(now), refusals: self.refusals.saturating_add(1), ..self }
    }

    /// What one call to `/flights` costs as far as is known.
    #[must_use]
    pub fn flights_cost(&self) -> u32 {
        self.seen_cost.unwrap_or(FLIGHTS_COST)
    }

    /// What is kept back at `now` for airports that are asked for the first time: less and less, the
    /// shorter the rest of the day.
    #[must_use]
    pub fn reserve(tier: Tier, now: DateTime<Utc>) -> u32 {
        Self::evenly(tier, now) / RESERVED_SHARE
    }

    /// What is left at `now` of a day's credits that are spent evenly.
    #[must_use]
    pub fn evenly(tier: Tier, now: DateTime<Utc>) -> u32 {
        let left = u32::try_from((end_of_day(now) - now).num_minutes()).unwrap_or_default();
        tier.daily() * left / (24 * 60)
    }

    /// When a call that costs `cost` can be made at the earliest.
    #[must_use]
    pub fn affordable_at(&self, cost: u32, now: DateTime<Utc>) -> DateTime<Utc> {
        let filled = if self.remaining >= cost { now } else { end_of_day(now) };
        self.paused_until.map_or(filled, |until| until.max(filled))
    }
}

/// What asking for `area` costs: by its square degrees.
#[must_use]
pub fn states_cost(area: &GeoBox) -> u32 {
    let size = area.square_degrees();
    if size <= 25.0 {
        1
    } else if size <= 100.0 {
        2
    } else if size <= 400.0 {
        3
    } else {
        STATES_COST_OF_THE_GLOBE
    }
}

/// Midnight UTC before `now`.
#[must_use]
pub fn start_of_day(now: DateTime<Utc>) -> DateTime<Utc> {
    now.date_naive().and_time(NaiveTime::MIN).and_utc()
}

/// The next midnight UTC, when buckets are filled.
#[must_use]
pub fn end_of_day(now: DateTime<Utc>) -> DateTime<Utc> {
    (now.date_naive() + Days::new(1)).and_time(NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests;
