//! What calls cost, and what is left of the day's credits.
//!
//! All figures are those of OpenSky's documentation: a bucket for `/states` and one for `/flights`,
//! each filled anew at midnight UTC.

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};

use super::geo::GeoBox;

/// What a box as large as the globe costs, and so the most that any set of airports costs.
pub const STATES_COST_OF_THE_GLOBE: u32 = 4;

/// What one direction of one airport on one finished UTC day is taken to cost until headers show it.
pub const FLIGHTS_COST: u32 = 30;

/// More than one such call can cost: a header that fell by more was lowered by somebody else who uses
/// the account.
const HIGHEST_FLIGHTS_COST: u32 = 60;

/// How long a bucket rests when the source says "too many requests" but not until when.
const PAUSE_WITHOUT_HEADER: TimeDelta = TimeDelta::hours(1);

/// The shortest pause: "again in no time" must not become a question without end.
const SHORTEST_PAUSE: TimeDelta = TimeDelta::seconds(1);

/// The longest pause that is believed; a bucket is filled every day.
const LONGEST_PAUSE: TimeDelta = TimeDelta::days(7);

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
    /// The source asked for silence until then.
    pub paused_until: Option<DateTime<Utc>>,
}

impl Credits {
    /// What is assumed before the source has said anything.
    #[must_use]
    pub fn assumed(tier: Tier, now: DateTime<Utc>) -> Self {
        Self { day: now.date_naive(), remaining: tier.daily(), from_header: false, seen_cost: None, paused_until: None }
    }

    /// The same at `now`: a new day fills the bucket, and a pause ends.
    #[must_use]
    pub fn at(self, tier: Tier, now: DateTime<Utc>) -> Self {
        let paused_until = self.paused_until.filter(|until| *until > now);
        if self.day < now.date_naive() {
            return Self { seen_cost: self.seen_cost, paused_until, ..Self::assumed(tier, now) };
        }
        Self { paused_until, ..self }
    }

    /// After a call that was taken to cost `cost` and came back with `header` as its remaining credits.
    #[must_use]
    pub fn after_call(self, cost: u32, header: Option<u32>) -> Self {
        let Some(header) = header else { return Self { remaining: self.remaining.saturating_sub(cost), ..self } };
        let spent = self
            .remaining
            .checked_sub(header)
            .filter(|spent| self.from_header && (1..=HIGHEST_FLIGHTS_COST).contains(spent));
        Self { remaining: header, from_header: true, seen_cost: spent.or(self.seen_cost), ..self }
    }

    /// After the source said "too many requests" at `now`, and perhaps for how many seconds.
    #[must_use]
    pub fn after_refusal(self, now: DateTime<Utc>, seconds: Option<u64>) -> Self {
        let pause = seconds.map_or(PAUSE_WITHOUT_HEADER, |seconds| {
            let pause = i64::try_from(seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(LONGEST_PAUSE);
            pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
        });
        Self { paused_until: Some(now + pause), ..self }
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

/// The next midnight UTC, when buckets are filled.
#[must_use]
pub fn end_of_day(now: DateTime<Utc>) -> DateTime<Utc> {
    (now.date_naive() + Days::new(1)).and_time(NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    const NOON: &str = "2026-11-20T12:00:00Z";

    #[test]
    fn a_header_is_believed_over_the_tier() {
        let credits = Credits::assumed(Tier::Anonymous, at(NOON));
        assert_eq!(credits.after_call(1, None).remaining, 399);
        let told = credits.after_call(1, Some(7_999));
        assert_eq!((told.remaining, told.from_header, told.seen_cost), (7_999, true, None));
    }

    #[test]
    fn two_headers_in_a_row_show_the_real_cost() {
        let credits =
            Credits::assumed(Tier::Standard, at(NOON)).after_call(30, Some(3_996)).after_call(30, Some(3_992));
        assert_eq!(credits.flights_cost(), 4);
        assert_eq!(credits.after_call(4, Some(3_992)).flights_cost(), 4, "a free call shows nothing");
        assert_eq!(credits.after_call(4, Some(4_000)).flights_cost(), 4, "nor does a bucket that was filled");
        assert_eq!(credits.after_call(4, Some(100)).flights_cost(), 4, "nor what somebody else has spent");
    }

    #[test]
    fn a_new_day_fills_the_bucket_and_keeps_a_longer_pause() {
        let spent = Credits { remaining: 0, ..Credits::assumed(Tier::Standard, at(NOON)) };
        let refused = spent.after_refusal(at(NOON), Some(38_715));
        assert_eq!(refused.at(Tier::Standard, at("2026-11-20T20:00:00Z")), refused);
        let next_day = spent.after_refusal(at("2026-11-20T23:00:00Z"), Some(7_200));
        let next_day = next_day.at(Tier::Standard, at("2026-11-21T00:30:00Z"));
        assert_eq!(next_day.remaining, 4_000);
        assert_eq!(next_day.paused_until, Some(at("2026-11-21T01:00:00Z")));
        assert_eq!(next_day.at(Tier::Standard, at("2026-11-21T01:00:00Z")).paused_until, None);
    }

    #[test]
    fn a_refusal_pauses_as_long_as_it_says_and_an_hour_when_it_does_not() {
        let credits = Credits::assumed(Tier::Standard, at(NOON));
        let until = |seconds| credits.after_refusal(at(NOON), seconds).affordable_at(1, at(NOON));
        assert_eq!(until(Some(38_715)), at("2026-11-20T22:45:15Z"));
        assert_eq!(until(None), at("2026-11-20T13:00:00Z"));
        assert_eq!(until(Some(u64::MAX)), at("2026-11-27T12:00:00Z"));
        assert_eq!(until(Some(0)), at("2026-11-20T12:00:01Z"));
    }

    #[test]
    fn an_empty_bucket_waits_for_midnight() {
        let empty = Credits { remaining: 3, ..Credits::assumed(Tier::Standard, at(NOON)) };
        assert_eq!(empty.affordable_at(3, at(NOON)), at(NOON));
        assert_eq!(empty.affordable_at(4, at(NOON)), at("2026-11-21T00:00:00Z"));
    }

    #[test]
    fn the_reserve_melts_with_the_day() {
        assert_eq!(Credits::reserve(Tier::Standard, at("2026-11-20T00:00:00Z")), 200);
        assert_eq!(Credits::reserve(Tier::Standard, at(NOON)), 100);
        assert_eq!(Credits::reserve(Tier::Standard, at("2026-11-20T23:59:59Z")), 0);
    }

    #[test]
    fn a_box_costs_by_its_size() {
        let cost = |width, height| states_cost(&GeoBox { south: 0.0, north: height, west: 0.0, east: width });
        assert_eq!([cost(5.0, 5.0), cost(5.1, 5.0), cost(10.0, 10.0), cost(20.0, 20.0)], [1, 2, 2, 3]);
        assert_eq!([cost(20.1, 20.0), cost(360.0, 180.0)], [4, 4]);
    }
}
