//! What is due, and when: by the interval, by what failed before, and by a pace that spreads the
//! credits over what is left of the day.

use std::cmp::Reverse;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{DailyNeed, LiveNeed, Situation, neighbours::boxes_around};
use crate::core::{
    boxes,
    credits::{Credits, end_of_day},
    day::{self, Direction},
};

/// However scarce credits are, look for a new day this often: without it nothing would ever be collected.
const LONGEST_PROBE_INTERVAL: TimeDelta = TimeDelta::hours(3);

/// How often the wait after a failure is doubled at most; the pace of the credits bounds it anyway.
const MOST_DOUBLINGS: u32 = 10;

/// Calls that a new airport needs. However small the share that is kept back, it suffices for one.
const NEWCOMER_CALLS: usize = 2;

/// The time between two rounds that cost `cost` each, when `credits` are spread over what is left of
/// the day; none when not even one is affordable.
fn spread(credits: u32, cost: u32, now: DateTime<Utc>) -> Option<TimeDelta> {
    let rounds = credits.checked_div(cost).filter(|rounds| *rounds > 0)?;
    Some((end_of_day(now) - now) / i32::try_from(rounds).unwrap_or(i32::MAX))
}

impl LiveNeed {
    /// When the airport may be asked for again, by the interval alone.
    pub(super) fn free_at(&self, situation: &Situation) -> DateTime<Utc> {
        self.attempted_at.map_or(situation.now, |at| at + situation.interval)
    }
}

/// Which airports are due for live figures.
pub(super) struct LiveSchedule {
    /// Those that are due now, as places in [`Situation::live`].
    pub chosen: Vec<usize>,
    /// Whether this is the regular cycle, and not only for those a user waits for.
    pub regular: bool,
    /// When the next regular cycle begins.
    pub cycle_at: DateTime<Utc>,
    /// What one cycle with every airport costs.
    pub round_cost: u32,
    /// The time between two cycles; none when not one more is affordable today.
    pub pace: Option<TimeDelta>,
}

impl LiveSchedule {
    pub(super) fn of(situation: &Situation) -> Self {
        let (now, needs) = (situation.now, &situation.live);
        let everywhere: Vec<usize> = (0..needs.len()).collect();
        let round_cost = boxes::cost(&boxes_around(needs, &everywhere));
        let spendable = situation.states.remaining.saturating_sub(Credits::reserve(situation.tier, now));
        let pace = spread(spendable, round_cost, now).map(|pace| pace.max(situation.interval));
        let cycle_at = cycle_at(situation, pace, round_cost);
        let regular = cycle_at <= now;
        // However many ask for it, an airport is tried once an interval: had the last answer been of
        // use, they would have been told it.
        let is_chosen = |place: &usize| {
            let need = &needs[*place];
            (need.requested || regular) && need.free_at(situation) <= now
        };
        Self { chosen: everywhere.into_iter().filter(is_chosen).collect(), regular, cycle_at, round_cost, pace }
    }

    /// When an airport that no user waits for is collected next.
    pub(super) fn in_cycle(&self, situation: &Situation, need: &LiveNeed) -> DateTime<Utc> {
        let free_at = need.free_at(situation);
        if free_at <= self.cycle_at { self.cycle_at } else { self.cycle_at + self.pace.unwrap_or(situation.interval) }
    }
}

fn cycle_at(situation: &Situation, pace: Option<TimeDelta>, cost: u32) -> DateTime<Utc> {
    let now = situation.now;
    let Some(pace) = pace else { return situation.states.affordable_at(cost, now).max(end_of_day(now)) };
    let in_pace = situation.cycle_begun_at.map_or(now, |begun| begun + pace);
    // A cycle without anybody in it would only shift the others.
    let first_free = situation.live.iter().map(|need| need.free_at(situation)).min();
    in_pace.max(first_free.unwrap_or(now)).max(situation.states.affordable_at(cost, now))
}

impl DailyNeed {
    /// When the airport may be asked for again, by the interval alone.
    fn free_at(&self, situation: &Situation) -> DateTime<Utc> {
        self.attempted_at.map_or(situation.now, |at| at + situation.interval)
    }
}

/// Which airports' finished days are due.
pub(super) struct DailySchedule {
    /// What each airport needs, in the situation's order.
    pub requests: Vec<DailyRequest>,
    /// When each airport will be collected next, in the same order.
    pub next_at: Vec<DateTime<Utc>>,
    /// When to look whether yesterday is published; none when it is, or when no airport is watched.
    pub probe_at: Option<DateTime<Utc>>,
    /// The newest day to be held everywhere.
    pub target: NaiveDate,
    /// What a round costs: every watched direction once, or as much of it as there are credits for.
    pub round_cost: u32,
    /// The time between two rounds; none when no more is to be asked today.
    pub pace: Option<TimeDelta>,
}

/// What one airport needs.
pub(super) struct DailyRequest {
    /// The airport, as a place in [`Situation::daily`].
    pub airport: usize,
    /// Directions whose newest day is not held.
    pub missing: Vec<Direction>,
    /// Whether they were found unpublished since that day is the newest one.
    pub unpublished: bool,
    pub urgency: Urgency,
    /// When it is due.
    pub at: DateTime<Utc>,
    /// When there are credits for what is missing.
    affordable_at: DateTime<Utc>,
    /// Whether yesterday is looked for on this occasion.
    pub probing: bool,
    /// Whether yesterday is asked for on behalf of a user who waits.
    pub for_waiting: bool,
}

/// How urgent something is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// A user waits.
    Waiting,
    /// A day that is published, or may be, is not held.
    Missing,
    /// All is held; ask once more for corrections.
    OnceMore,
}

impl DailySchedule {
    pub(super) fn of(situation: &Situation) -> Self {
        let target = Target::of(situation);
        let gaps: Vec<Gap> = situation.daily.iter().map(|need| target.gap(need)).collect();
        let budget = DailyBudget::of(situation, &gaps);
        let probe_at = budget.probe_at(situation);
        let places = gaps.into_iter().enumerate();
        let mut requests: Vec<DailyRequest> =
            places.map(|(place, gap)| budget.request(situation, place, gap, probe_at)).collect();
        let lined_up = budget.queue(situation, &mut requests);
        let next_at = requests.iter().map(|request| match request.urgency {
            Urgency::Waiting => request.at,
            Urgency::Missing if !request.unpublished => request.at,
            // A day that turns out to be published is collected at once.
            Urgency::Missing | Urgency::OnceMore => probe_at.map_or(request.at, |at| at.min(request.at)),
        });
        let next_at = next_at.collect();
        // One by one they last the day.
        let (pace, round_cost) = lined_up.map_or_else(|| budget.round(probe_at.is_some()), |each| (None, each));
        Self { requests, next_at, probe_at, target: target.day, round_cost, pace }
    }
}

/// The newest day that is to be held everywhere.
struct Target {
    day: NaiveDate,
    /// Since when it is; what was asked for before says nothing about it.
    since: DateTime<Utc>,
}

/// The gap of an airport: what it does not hold of the target.
struct Gap {
    missing: Vec<Direction>,
    /// Whether it was found unpublished already.
    unpublished: bool,
}

impl Target {
    fn of(situation: &Situation) -> Self {
        let yesterday = day::yesterday(situation.now);
        let midnight = end_of_day(situation.now) - TimeDelta::days(1);
        situation.yesterday_published_at.map_or_else(
            || Self { day: day::before(yesterday), since: situation.before_published_at.unwrap_or(midnight) },
            |since| Self { day: yesterday, since },
        )
    }

    fn gap(&self, need: &DailyNeed) -> Gap {
        let is_missing = |held: Option<NaiveDate>| held.is_none_or(|held| held < self.day);
        let missing = need.directions.iter().filter(|(_, held)| is_missing(*held)).map(|(direction, _)| *direction);
        let missing: Vec<Direction> = missing.collect();
        let asked = need.attempted_at.is_some_and(|at| at >= self.since);
        // Where another direction was found and nothing failed, this one is watched since a short while.
        let new_direction = need.failures == 0 && missing.len() < need.directions.len();
        let unpublished = asked && !missing.is_empty() && !new_direction;
        Gap { missing, unpublished }
    }
}

/// How the rest of the day's credits for flights are divided.
struct DailyBudget {
    /// One call.
    cost: u32,
    /// Every watched direction once.
    round_cost: u32,
    /// Every direction once that is not held and was not asked for.
    fresh_cost: u32,
    /// Every direction once that was found unpublished.
    unpublished_cost: u32,
    /// What may be spent without touching the reserve for new airports.
    spendable: u32,
    /// What may be spent on asking again for what was unpublished: what no other airport and no probe needs.
    for_retries: u32,
    probe_interval: TimeDelta,
    /// The time between two rounds over days that are held; none when nothing remains for them.
    pace: Option<TimeDelta>,
    /// The time between two rounds over what was found unpublished; none when not one is affordable.
    retry_pace: Option<TimeDelta>,
}

impl DailyBudget {
    fn of(situation: &Situation, gaps: &[Gap]) -> Self {
        let now = situation.now;
        let published = situation.yesterday_published_at.is_some();
        let cost = situation.flights.flights_cost();
        let calls = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(cost);
        let with_gaps = |unpublished: bool| gaps.iter().filter(move |gap| gap.unpublished == unpublished);
        let [fresh_cost, unpublished_cost] =
            [false, true].map(|unpublished| calls(with_gaps(unpublished).map(|gap| gap.missing.len()).sum()));
        let watched = situation.daily.iter().flat_map(|need| &need.directions);
        let round_cost = calls(watched.clone().count());
        // Yesterday's flights, still to be collected wherever they are not held, come before all else.
        let yesterday = day::yesterday(now);
        let to_come = calls(watched.filter(|(_, held)| held.is_none_or(|held| held < yesterday)).count());
        let reserve = Credits::reserve(situation.tier, now);
        let spendable = situation.flights.remaining.saturating_sub(reserve);
        let beyond_newcomer = situation.flights.remaining.saturating_sub(reserve.max(calls(NEWCOMER_CALLS)));
        // Before yesterday is published, what is asked for now will be asked for once more after that.
        let spare = beyond_newcomer.saturating_sub(to_come).saturating_sub(if published { 0 } else { fresh_cost });
        let probe_interval = spread(spare / 2, cost, now).unwrap_or(LONGEST_PROBE_INTERVAL);
        let probe_interval = probe_interval.min(LONGEST_PROBE_INTERVAL).max(situation.interval);
        let probes = (end_of_day(now) - now).num_seconds() / probe_interval.num_seconds().max(1);
        let for_probes = if published { 0 } else { calls(usize::try_from(probes).unwrap_or(0)) };
        let for_rounds = spare.saturating_sub(for_probes);
        let for_retries = if published { beyond_newcomer.saturating_sub(fresh_cost) } else { for_rounds };
        let at_least = |pace: TimeDelta| pace.max(situation.interval);
        let pace = spread(for_rounds, round_cost, now).map(at_least);
        let retry_pace = spread(for_retries, round_cost, now).or_else(|| spread(for_retries, unpublished_cost, now));
        let retry_pace = retry_pace.map(at_least);
        Self {
            cost,
            round_cost,
            fresh_cost,
            unpublished_cost,
            spendable,
            for_retries,
            probe_interval,
            pace,
            retry_pace,
        }
    }

    /// The time between two rounds of what is affordable, and what one costs.
    fn round(&self, probing: bool) -> (Option<TimeDelta>, u32) {
        let retries = self.retry_pace.filter(|_| self.unpublished_cost > 0);
        match (self.pace, retries) {
            (Some(pace), _) => (Some(pace), self.round_cost),
            (None, Some(pace)) => (Some(pace), self.unpublished_cost),
            (None, None) if probing => (Some(self.probe_interval), self.cost),
            (None, None) => (None, self.round_cost),
        }
    }

    fn probe_at(&self, situation: &Situation) -> Option<DateTime<Utc>> {
        let probe = best_probe(situation).filter(|_| situation.yesterday_published_at.is_none())?;
        let due = situation.probed_at.map_or(situation.now, |at| at + self.probe_interval);
        let probe = &situation.daily[probe];
        // A day that is found is collected at once.
        let affordable_at = situation.flights.affordable_at(self.cost_of(probe.directions.len()), situation.now);
        let deferred = situation.probe_deferred_at.map_or(due, |at| at + situation.interval);
        // The airport may just have been asked for that day, without an answer.
        Some(due.max(deferred).max(probe.free_at(situation)).max(affordable_at))
    }

    /// What the airport at `place` needs, and when it can have it.
    fn request(&self, situation: &Situation, place: usize, gap: Gap, probe_at: Option<DateTime<Utc>>) -> DailyRequest {
        let (now, need, Gap { missing, unpublished }) = (situation.now, &situation.daily[place], gap);
        let is_unpublished = situation.yesterday_published_at.is_none() && !missing.is_empty();
        let probing = is_unpublished && probe_at.is_some_and(|at| at <= now);
        // What other airports said about yesterday proves nothing for this one. An airport that was never asked is
        // new: the request of the person who waits for it may still be on its way.
        let is_waited_for = need.requested || need.attempted_at.is_none();
        let for_waiting =
            is_unpublished && is_waited_for && need.probed.at.is_none_or(|at| at + situation.interval <= now);
        let further = u32::from(probing || for_waiting);
        let cost = self.cost_of(missing.len()).saturating_add(self.cost.saturating_mul(further));
        let affordable_at = situation.flights.affordable_at(cost, now);
        let (urgency, at) = if need.requested {
            let at = if unpublished { self.again_at(situation, need, cost) } else { now };
            (Urgency::Waiting, if missing.is_empty() { now } else { at.max(affordable_at) })
        } else if !missing.is_empty() {
            let at = if unpublished { self.again_at(situation, need, cost) } else { need.free_at(situation) };
            (Urgency::Missing, at.max(affordable_at))
        } else {
            let in_pace = self.pace.map(|pace| need.attempted_at.map_or(now, |at| at + pace));
            let round = situation.flights.affordable_at(self.round_cost, now);
            (Urgency::OnceMore, in_pace.map_or_else(|| end_of_day(now), |at| at.max(round)))
        };
        DailyRequest { airport: place, missing, unpublished, urgency, at, affordable_at, probing, for_waiting }
    }

    fn cost_of(&self, calls: usize) -> u32 {
        u32::try_from(calls).unwrap_or(u32::MAX).saturating_mul(self.cost)
    }

    /// When an airport that was found unpublished may be asked for again: at the pace of the credits. While more than
    /// half of what even spending would leave is there, a user who waits for it waits for the interval only, and so
    /// does what had no answer, every further time twice as long. The first time that is so with fewer credits too:
    /// perhaps it was not even asked, for an open breaker.
    fn again_at(&self, situation: &Situation, need: &DailyNeed, cost: u32) -> DateTime<Utc> {
        let (now, left) = (situation.now, situation.flights.remaining);
        let Some(pace) = self.retry_pace else { return end_of_day(now) };
        let is_ample = left.saturating_sub(cost) > Credits::evenly(situation.tier, now) / 2;
        let soon = match need.failures {
            _ if self.for_retries < cost => pace,
            failures if !is_ample && failures != 1 => pace,
            _ if need.requested => situation.interval,
            0 => pace,
            failures => situation.interval * (1 << (failures - 1).min(MOST_DOUBLINGS)),
        };
        need.attempted_at.unwrap_or(now) + soon.min(pace)
    }

    /// Where the credits do not last for every day that is missing, those are asked for one by one through the day, the
    /// one not tried for longest first: so some are left when yesterday is published, and for users who come later.
    /// Answers what one of them costs, when there are any.
    fn queue(&self, situation: &Situation, requests: &mut [DailyRequest]) -> Option<u32> {
        // What is collected before yesterday is published will be asked for once more after that.
        let again = if situation.yesterday_published_at.is_some() { 0 } else { self.round_cost };
        let are_scarce = self.fresh_cost > 0 && self.fresh_cost.saturating_add(again) > self.spendable;
        let fresh = are_scarce.then(|| self.line_up(situation, requests, false, self.spendable));
        if self.unpublished_cost > self.for_retries {
            self.line_up(situation, requests, true, self.for_retries);
        }
        fresh.filter(|each| *each > 0)
    }

    /// Asks for what is missing, found unpublished or not so far, one by one: `credits` are for all of it.
    /// Answers what one costs, on average.
    fn line_up(&self, situation: &Situation, requests: &mut [DailyRequest], unpublished: bool, credits: u32) -> u32 {
        let now = situation.now;
        let needs = &situation.daily;
        let mut waiting: Vec<&mut DailyRequest> = requests
            .iter_mut()
            .filter(|request| request.urgency == Urgency::Missing && request.unpublished == unpublished)
            .collect();
        let calls: usize = waiting.iter().map(|request| request.missing.len()).sum();
        let each = self.cost_of(calls.div_ceil(waiting.len().max(1)));
        let turn = spread(credits, each, now);
        let last = needs.iter().filter_map(|need| need.attempted_at).max();
        waiting.sort_by_key(|request| (needs[request.airport].attempted_at, request.airport));
        for (place, request) in waiting.into_iter().enumerate() {
            let in_turn = turn.map(|turn| {
                let first = last.map_or(now, |last| last + turn).max(now);
                first + turn * i32::try_from(place).unwrap_or(i32::MAX)
            });
            let in_turn = in_turn.unwrap_or_else(|| end_of_day(now)).min(end_of_day(now));
            request.at = needs[request.airport].free_at(situation).max(request.affordable_at).max(in_turn);
        }
        each
    }
}

/// The airport most likely to have flights on any day. Each time that it found the day unpublished halves what its
/// traffic promises, so that the search moves on; of equal ones the one not asked for longest.
pub(super) fn best_probe(situation: &Situation) -> Option<usize> {
    let needs = &situation.daily;
    let promise = |place: &usize| {
        let DailyNeed { traffic, probed, attempted_at, .. } = &needs[*place];
        (traffic.get() >> probed.times.min(62), Reverse(probed.times), Reverse(*attempted_at))
    };
    (0..needs.len()).max_by_key(promise)
}
