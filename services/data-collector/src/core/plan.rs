//! The credit planner: what to ask next, when, and how long the credits last.
//!
//! The planner is asked again after every step, with what is known then, so it never has to foresee failures: it
//! spreads what is left over what is left of the day. `live` figures of all airports are taken in one cycle. Daily
//! figures go by four rules, in this order: an airport that a user waits for; a day that is not held and was not asked
//! for yet; a probe whether yesterday is published; and, from what remains, airports once more: for a day that was
//! found unpublished, or for corrections.
//!
//! `schedule` knows what is due and when, `neighbours` which airports share a box; `batching` makes calls of
//! both that the credits allow.

mod batching;
mod neighbours;
mod schedule;
mod times_ahead;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use events::{FlightCount, Metric};
use schedule::{DailySchedule, LiveSchedule};

use super::{
    boxes::BoundingBoxQuery,
    credits::{Bucket, Credits, Tier, end_of_day},
    day::Direction,
    geo::Position,
};

/// All that the plan depends on.
#[derive(Clone, Debug)]
pub struct Situation {
    /// The time.
    pub now: DateTime<Utc>,
    /// The least time between two collections of an airport.
    pub interval: TimeDelta,
    /// What a full bucket holds.
    pub tier: Tier,
    /// What is left for `/states`, as of `now`.
    pub states: Credits,
    /// What is left for `/flights`, as of `now`.
    pub flights: Credits,
    /// When the last regular cycle for live figures began.
    pub cycle_begun_at: Option<DateTime<Utc>>,
    /// Airports watched for live figures.
    pub live: Vec<LiveNeed>,
    /// Airports watched for daily figures.
    pub daily: Vec<DailyNeed>,
    /// Since when the day before `now`'s is known to be published.
    pub yesterday_published_at: Option<DateTime<Utc>>,
    /// Since when the day before that one is known to be published.
    pub before_published_at: Option<DateTime<Utc>>,
    /// When yesterday was last found unpublished.
    pub probed_at: Option<DateTime<Utc>>,
    /// When it was last to be looked for and nothing was asked, for an open breaker or a pause.
    pub probe_deferred_at: Option<DateTime<Utc>>,
}

/// An airport whose live figures a user watches.
#[derive(Clone, Debug)]
pub struct LiveNeed {
    /// Its ICAO code.
    pub airport: String,
    /// Where it is.
    pub position: Position,
    /// When it was last asked for, successfully or not.
    pub attempted_at: Option<DateTime<Utc>>,
    /// Whether a user waits for it.
    pub requested: bool,
    /// Whether it is to have a box of its own: the source refused one that it shared.
    pub alone: bool,
}

/// An airport whose finished days a user watches.
#[derive(Clone, Debug)]
pub struct DailyNeed {
    /// Its ICAO code.
    pub airport: String,
    /// Which directions are watched, and the newest day that is held of each.
    pub directions: Vec<(Direction, Option<NaiveDate>)>,
    /// When it was last asked for, successfully or not.
    pub attempted_at: Option<DateTime<Utc>>,
    /// How many attempts in a row, up to that one, had no answer; none when it was answered, if only
    /// with "nothing there".
    pub failures: u32,
    /// Whether a user waits for it.
    pub requested: bool,
    /// How many flights its newest day had: the busiest airport is the best probe.
    pub traffic: FlightCount,
    /// How often yesterday was found unpublished there.
    pub probed: Probed,
}

/// How often yesterday was found unpublished at an airport, since that day is yesterday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// When it last was.
    pub at: Option<DateTime<Utc>>,
    /// How often.
    pub times: u32,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum CollectionStep {
    /// Ask for boxes.
    Live {
        /// The airports to count at, as places in [`Situation::live`].
        airports: Vec<usize>,
        /// The boxes; their airports are places in `airports`.
        calls: Vec<BoundingBoxQuery>,
        /// Whether this is the regular cycle.
        regular: bool,
    },
    /// Ask for the flights of one airport.
    Daily {
        /// The airport, as a place in [`Situation::daily`].
        airport: usize,
        /// The directions to ask for; none when all that is needed is held.
        directions: Vec<Direction>,
        /// Which days.
        days: DaySelection,
    },
}

/// Which days a daily step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaySelection {
    /// Yesterday, and the day before where yesterday is not published.
    Newest,
    /// The same for a user who waits, whatever other airports had to say about yesterday. Where it is unpublished, it
    /// says nothing about others either, unless the airport is known for its traffic.
    NewestForWaiting,
    /// The day before yesterday: yesterday was found unpublished a short while ago.
    DayBefore,
    /// Yesterday alone, to see whether it is published.
    Probe,
}

/// Which figures of an airport are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Aircraft now.
    Live,
    /// Flights of finished days.
    Daily,
}

impl Kind {
    /// The kind that a metric belongs to.
    #[must_use]
    pub const fn of(metric: Metric) -> Self {
        match metric {
            Metric::Live => Self::Live,
            Metric::Flights | Metric::Arrivals | Metric::Departures => Self::Daily,
        }
    }

    /// The name used in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Daily => "daily",
        }
    }
}

/// The plan as of now.
#[derive(Clone, Debug)]
pub struct CollectionPlan {
    /// What to do at once.
    pub step: Option<CollectionStep>,
    /// When to plan again at the latest.
    pub wake_at: DateTime<Utc>,
    /// When each airport will be collected next: live ones, then daily ones, in the situation's order.
    pub next_at: Vec<(String, Kind, DateTime<Utc>)>,
    /// How each bucket fares.
    pub budget_report: [BudgetReport; 2],
}

/// How long a bucket lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetReport {
    /// The bucket.
    pub bucket: Bucket,
    /// What is left of it.
    pub remaining: u32,
    /// Until when it is spent at the present pace; at most the end of the day, when it is filled.
    pub lasts_until: DateTime<Utc>,
    /// The time between two rounds of collection that the bucket allows; none when it allows none today.
    pub pace: Option<TimeDelta>,
    /// The source asked for silence until then.
    pub paused_until: Option<DateTime<Utc>>,
}

/// Decides what to do next.
#[must_use]
pub fn plan(situation: &Situation) -> CollectionPlan {
    let (now, live, daily) = (situation.now, LiveSchedule::of(situation), DailySchedule::of(situation));
    let (live_step, live_next) = batching::live(situation, &live);
    let daily_step = batching::daily(situation, &daily);
    let buckets = [(Bucket::States, situation.states), (Bucket::Flights, situation.flights)];
    let doubts = buckets.into_iter().filter_map(|(bucket, credits)| credits.empty_until(bucket, now));
    let wake_at = live_next.iter().chain(&daily.next_at).copied().chain(daily.probe_at).chain(doubts).min();
    let live_next = situation.live.iter().zip(live_next).map(|(need, at)| (need.airport.clone(), Kind::Live, at));
    let daily_next =
        situation.daily.iter().zip(&daily.next_at).map(|(need, at)| (need.airport.clone(), Kind::Daily, *at));
    CollectionPlan {
        step: live_step.or(daily_step),
        // At midnight buckets are filled and there is another yesterday.
        wake_at: wake_at.map_or_else(|| end_of_day(now), |at| at.min(end_of_day(now))),
        next_at: live_next.chain(daily_next).collect(),
        budget_report: [
            budget_report(Bucket::States, &situation.states, live.round_cost, live.pace, now),
            budget_report(Bucket::Flights, &situation.flights, daily.round_cost, daily.pace, now),
        ],
    }
}

fn budget_report(
    bucket: Bucket,
    credits: &Credits,
    cost: u32,
    pace: Option<TimeDelta>,
    now: DateTime<Utc>,
) -> BudgetReport {
    let end = end_of_day(now);
    let rounds = credits.remaining.checked_div(cost).and_then(|rounds| i32::try_from(rounds).ok());
    let lasts_until = match (rounds, pace) {
        (Some(0), _) => now,
        (Some(rounds), Some(pace)) => (now + (pace * rounds).min(TimeDelta::days(1))).min(end),
        _ => end,
    };
    BudgetReport { bucket, remaining: credits.remaining, lasts_until, pace, paused_until: credits.paused_until }
}

#[cfg(test)]
mod tests;
