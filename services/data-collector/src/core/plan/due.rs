//! What is due, and when: by the interval, by what failed before, and by a pace that spreads the
//! credits over what is left of the day.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{DailyNeed, LiveNeed, Situation};
use crate::core::{
    boxes,
    credits::{Credits, end_of_day},
    day::{self, Direction},
};

/// However scarce credits are, look for a new day this often: without it nothing would ever be collected.
const LONGEST_PROBE_INTERVAL: TimeDelta = TimeDelta::hours(3);

/// How often the wait after a failure is doubled at most; the pace of the credits bounds it anyway.
const MOST_DOUBLINGS: u32 = 10;

/// The time between two rounds that cost `cost` each, when `credits` are spread over what is left of
/// the day; none when not even one is affordable.
fn spread(credits: u32, cost: u32, now: DateTime<Utc>) -> Option<TimeDelta> {
    let rounds = credits.checked_div(cost).filter(|rounds| *rounds > 0)?;
    Some((end_of_day(now) - now) / i32::try_from(rounds).unwrap_or(i32::MAX))
}

/// Which airports' skies are due.
pub(super) struct LiveDue {
    /// Those that are due now, as places in [`Situation::live`].
    pub chosen: Vec<usize>,
    /// Whether this is the regular cycle, and not only for those somebody waits for.
    pub regular: bool,
    /// When the next regular cycle begins.
    pub cycle_at: DateTime<Utc>,
    /// What one cycle with every airport costs.
    pub round_cost: u32,
    /// The time between two cycles; none when not one more is affordable today.
    pub pace: Option<TimeDelta>,
}

impl LiveDue {
    pub(super) fn of(situation: &Situation) -> Self {
        let (now, needs) = (situation.now, &situation.live);
        let everywhere: Vec<usize> = (0..needs.len()).collect();
        let round_cost = boxes::cost(&super::pack::boxes(needs, &everywhere));
        let spendable = situation.states.remaining.saturating_sub(Credits::reserve(situation.tier, now));
        let pace = spread(spendable, round_cost, now).map(|pace| pace.max(situation.interval));
        let cycle_at = cycle_at(situation, pace, round_cost);
        let regular = cycle_at <= now;
        let is_due = |need: &LiveNeed| need.attempted_at.is_none_or(|at| at + situation.interval <= now);
        let is_chosen = |place: &usize| needs[*place].requested || (regular && is_due(&needs[*place]));
        Self { chosen: everywhere.into_iter().filter(is_chosen).collect(), regular, cycle_at, round_cost, pace }
    }

    /// When an airport that nobody waits for is collected next.
    pub(super) fn in_cycle(&self, situation: &Situation, need: &LiveNeed) -> DateTime<Utc> {
        let free_at = need.attempted_at.map_or(situation.now, |at| at + situation.interval);
        if free_at <= self.cycle_at { self.cycle_at } else { self.cycle_at + self.pace.unwrap_or(situation.interval) }
    }
}

fn cycle_at(situation: &Situation, pace: Option<TimeDelta>, cost: u32) -> DateTime<Utc> {
    let now = situation.now;
    let Some(pace) = pace else { return situation.states.affordable_at(cost, now).max(end_of_day(now)) };
    let in_pace = situation.cycle_begun_at.map_or(now, |begun| begun + pace);
    // A cycle without anybody in it would only shift the others.
    let first_free =
        situation.live.iter().map(|need| need.attempted_at.map_or(now, |at| at + situation.interval)).min();
    in_pace.max(first_free.unwrap_or(now)).max(situation.states.affordable_at(cost, now))
}

/// Which airports' finished days are due.
pub(super) struct DailyDue {
    /// What each airport needs, in the situation's order.
    pub asks: Vec<Ask>,
    /// When each airport will be collected next, in the same order.
    pub next_at: Vec<DateTime<Utc>>,
    /// When to look whether yesterday is published; none when it is, or when nobody watches.
    pub probe_at: Option<DateTime<Utc>>,
    /// The newest day to be held everywhere.
    pub target: NaiveDate,
    /// What asking for every watched direction once costs.
    pub round_cost: u32,
    /// The time between two rounds, or where none are affordable between two probes.
    pub pace: Option<TimeDelta>,
}

/// What one airport needs.
pub(super) struct Ask {
    /// The airport, as a place in [`Situation::daily`].
    pub airport: usize,
    /// Directions whose newest day is not held.
    pub missing: Vec<Direction>,
    pub urgency: Urgency,
    /// When it is due.
    pub at: DateTime<Utc>,
    /// Whether yesterday is looked for on this occasion.
    pub probing: bool,
}

/// How urgent something is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Somebody waits.
    Waiting,
    /// A day that is published, or may be, is not held.
    Missing,
    /// All is held; ask once more for corrections.
    OnceMore,
}

impl DailyDue {
    pub(super) fn of(situation: &Situation) -> Self {
        let budget = DailyBudget::of(situation);
        let probe_at = budget.probe_at(situation);
        let mut asks: Vec<Ask> = situation
            .daily
            .iter()
            .enumerate()
            .map(|(place, need)| budget.ask(situation, place, need, probe_at))
            .collect();
        budget.queue(situation, &mut asks);
        let next_at = asks.iter().map(|ask| match ask.urgency {
            // A day that turns out to be published is collected at once.
            Urgency::OnceMore => probe_at.map_or(ask.at, |at| at.min(ask.at)),
            Urgency::Waiting | Urgency::Missing => ask.at,
        });
        let next_at = next_at.collect();
        let pace = budget.pace.or_else(|| probe_at.map(|_| budget.probe_interval));
        Self { asks, next_at, probe_at, target: budget.target, round_cost: budget.round_cost, pace }
    }
}

/// How the rest of the day's credits for flights are divided.
struct DailyBudget {
    /// One call.
    cost: u32,
    /// Every watched direction once.
    round_cost: u32,
    /// What may be spent without touching the reserve for new airports.
    spendable: u32,
    probe_interval: TimeDelta,
    /// The time between two rounds over days that are held; none when nothing remains for them.
    pace: Option<TimeDelta>,
    target: NaiveDate,
}

impl DailyBudget {
    fn of(situation: &Situation) -> Self {
        let now = situation.now;
        let yesterday = day::yesterday(now);
        let target = if situation.yesterday_published { yesterday } else { day::before(yesterday) };
        let cost = situation.flights.flights_cost();
        let calls = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(cost);
        let watched = situation.daily.iter().flat_map(|need| &need.directions);
        let round_cost = calls(watched.clone().count());
        // Yesterday's flights, still to be collected wherever they are not held, come before all else.
        let to_come = calls(watched.filter(|(_, held)| held.is_none_or(|held| held < yesterday)).count());
        let spendable = situation.flights.remaining.saturating_sub(Credits::reserve(situation.tier, now));
        let spare = spendable.saturating_sub(to_come);
        let probe_interval = spread(spare, cost, now).unwrap_or(LONGEST_PROBE_INTERVAL);
        let probe_interval = probe_interval.min(LONGEST_PROBE_INTERVAL).max(situation.interval);
        let probes = (end_of_day(now) - now).num_seconds() / probe_interval.num_seconds().max(1);
        let for_probes = if situation.yesterday_published { 0 } else { calls(usize::try_from(probes).unwrap_or(0)) };
        let pace = spread(spare.saturating_sub(for_probes), round_cost, now).map(|pace| pace.max(situation.interval));
        Self { cost, round_cost, spendable, probe_interval, pace, target }
    }

    fn probe_at(&self, situation: &Situation) -> Option<DateTime<Utc>> {
        if situation.yesterday_published || situation.daily.is_empty() {
            return None;
        }
        let due = situation.probed_at.map_or(situation.now, |at| at + self.probe_interval);
        Some(due.max(situation.flights.affordable_at(self.cost, situation.now)))
    }

    /// What the airport at `place` needs, and when it can have it.
    fn ask(&self, situation: &Situation, place: usize, need: &DailyNeed, probe_at: Option<DateTime<Utc>>) -> Ask {
        let now = situation.now;
        let is_missing = |held: Option<NaiveDate>| held.is_none_or(|held| held < self.target);
        let missing = need.directions.iter().filter(|(_, held)| is_missing(*held)).map(|(direction, _)| *direction);
        let missing: Vec<Direction> = missing.collect();
        let probing = u32::from(probe_at.is_some_and(|at| at <= now) && !missing.is_empty());
        let cost = self.cost_of(missing.len()).saturating_add(self.cost.saturating_mul(probing));
        let affordable_at = situation.flights.affordable_at(cost, now);
        let (urgency, at) = if need.requested {
            (Urgency::Waiting, if missing.is_empty() { now } else { affordable_at })
        } else if !missing.is_empty() {
            (Urgency::Missing, self.free_at(situation, need).max(affordable_at))
        } else {
            let in_pace = self.pace.map(|pace| need.attempted_at.map_or(now, |at| at + pace));
            let round = situation.flights.affordable_at(self.round_cost, now);
            (Urgency::OnceMore, in_pace.map_or_else(|| end_of_day(now), |at| at.max(round)))
        };
        Ask { airport: place, missing, urgency, at, probing: probing > 0 }
    }

    fn cost_of(&self, calls: usize) -> u32 {
        u32::try_from(calls).unwrap_or(u32::MAX).saturating_mul(self.cost)
    }

    /// When an airport may be asked again: after the interval, and after every further failure twice as
    /// late, until the wait is what the credits allow for a day that is held.
    fn free_at(&self, situation: &Situation, need: &DailyNeed) -> DateTime<Utc> {
        let Some(attempted_at) = need.attempted_at else { return situation.now };
        let doubled = situation.interval * (1 << need.failures.saturating_sub(1).min(MOST_DOUBLINGS));
        let allowed = self.pace.unwrap_or(LONGEST_PROBE_INTERVAL).min(LONGEST_PROBE_INTERVAL);
        attempted_at + doubled.min(allowed).max(situation.interval)
    }

    /// Where the credits do not last for every day that is missing, those are asked for one by one
    /// through the day, the one not tried for longest first: so some are left when yesterday is
    /// published, and for whoever comes later.
    fn queue(&self, situation: &Situation, asks: &mut [Ask]) {
        let now = situation.now;
        let mut waiting: Vec<&mut Ask> = asks.iter_mut().filter(|ask| ask.urgency == Urgency::Missing).collect();
        let calls: usize = waiting.iter().map(|ask| ask.missing.len()).sum();
        // What is collected before yesterday is published will be asked for once more after that.
        let again = if situation.yesterday_published { 0 } else { self.round_cost };
        if waiting.is_empty() || self.cost_of(calls).saturating_add(again) <= self.spendable {
            return;
        }
        let each = self.cost_of(calls.div_ceil(waiting.len()));
        let turn = spread(self.spendable, each, now);
        let last = situation.daily.iter().filter_map(|need| need.attempted_at).max();
        waiting.sort_by_key(|ask| (situation.daily[ask.airport].attempted_at, ask.airport));
        for (place, ask) in waiting.into_iter().enumerate() {
            let in_turn = turn.map(|turn| {
                let first = last.map_or(now, |last| last + turn).max(now);
                first + turn * i32::try_from(place).unwrap_or(i32::MAX)
            });
            let in_turn = in_turn.unwrap_or_else(|| end_of_day(now)).min(end_of_day(now));
            ask.at = ask.at.max(in_turn);
        }
    }
}
