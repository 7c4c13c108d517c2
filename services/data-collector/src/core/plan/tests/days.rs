//! Whole days by the plan, whatever the source does.

use std::collections::HashMap;

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;
use crate::core::{boxes, day};

/// The same days in every run, so that a run tells about a change and not about its luck. Others are
/// tried by hand, with `PROPTEST_RNG_SEED` and `PROPTEST_CASES`.
fn days(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(20_261_121),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(days(256))]

    /// However the day goes, a collector that follows the plan never spends more than there is, never asks for an
    /// airport sooner than the interval says, and still has credits in the last hour.
    #[test]
    fn a_day_by_the_plan_stays_within_its_credits(
        interval in 60i64..1_200, remaining in 1u32..600, airports in 1usize..6, start in 0u32..20,
    ) {
        let begin = at("00:00:00") + TimeDelta::hours(i64::from(start));
        let mut situation = situation(begin);
        situation.interval = TimeDelta::seconds(interval);
        situation.tier = Tier::Anonymous;
        situation.states = Credits { remaining, ..Credits::assumed(Tier::Anonymous, begin) };
        situation.live = (0..airports)
            .map(|place| live("XXXX", Position { latitude: 40.0, longitude: f64::from(u8::try_from(place).unwrap()) * 30.0 }, None))
            .collect();
        let end = end_of_day(begin);
        for _ in 0..20_000 {
            let plan = plan(&situation);
            if let Some(CollectionStep::Live { airports, calls, .. }) = plan.step {
                let cost = boxes::cost(&calls);
                prop_assert!(cost <= situation.states.remaining);
                situation.states = situation.states.after_call(cost, None, situation.now);
                situation.cycle_begun_at = Some(situation.now);
                for place in airports {
                    let before = situation.live[place].attempted_at.replace(situation.now);
                    prop_assert!(before.is_none_or(|before| situation.now - before >= situation.interval));
                }
            } else {
                prop_assert!(plan.wake_at > situation.now, "a plan without a step waits");
                if plan.wake_at >= end { break }
                situation.now = plan.wake_at;
            }
        }
    }
}

/// A day on which a collector follows the plan for `/flights`, and what the source has on it.
struct Day {
    situation: Situation,
    /// From when on yesterday's flights are there; never, where none.
    yesterday_from: Option<DateTime<Utc>>,
    /// Whether the flights of the day before are.
    before_is_there: bool,
    /// The airports, by their places, that have no flights on any day.
    quiet: Vec<bool>,
    /// When nothing is answered.
    down: [DateTime<Utc>; 2],
    /// When each question was last asked.
    asked_at: HashMap<(usize, Direction, NaiveDate), DateTime<Utc>>,
    /// How often each airport was tried.
    tried: Vec<u32>,
    /// Credits spent on airports that were not asked since there is a newer day.
    spent_first: u32,
}

impl Day {
    /// A day of `airports` that were all watched before, with a bucket of `full`.
    fn new(full: u32, airports: usize) -> Self {
        let begin = at("00:00:00");
        let mut situation = situation(begin);
        situation.tier = if full < 4_000 { Tier::Anonymous } else { Tier::Standard };
        situation.flights = Credits { remaining: full, ..Credits::assumed(situation.tier, begin) };
        let tried_at = Some(begin - TimeDelta::hours(12));
        situation.daily = (0..airports).map(|place| daily(&format!("X{place:03}"), [None, None], tried_at)).collect();
        let (quiet, tried) = (vec![false; airports], vec![0; airports]);
        let (down, asked_at) = ([begin, begin], HashMap::new());
        Self { situation, yesterday_from: None, before_is_there: true, quiet, down, asked_at, tried, spent_first: 0 }
    }

    /// Holds the day before yesterday everywhere, as after a good day.
    fn hold_the_day_before(&mut self) {
        let before = day::before(day::yesterday(self.situation.now));
        let directions = self.situation.daily.iter_mut().flat_map(|need| &mut need.directions);
        directions.for_each(|(_, held)| *held = Some(before));
        self.situation.before_published_at = Some(self.situation.now - TimeDelta::hours(12));
    }

    /// Follows the plan until `end`.
    fn run_until(&mut self, end: DateTime<Utc>) -> Result<(), TestCaseError> {
        for _ in 0..20_000 {
            let plan = plan(&self.situation);
            if let Some(CollectionStep::Daily { airport, directions, days }) = plan.step {
                self.collect(airport, &directions, days)?;
                continue;
            }
            prop_assert!(plan.wake_at > self.situation.now, "a plan without a step waits");
            if plan.wake_at >= end {
                self.situation.now = end;
                return Ok(());
            }
            self.situation.now = plan.wake_at;
        }
        Err(TestCaseError::fail("the plan never rests"))
    }

    /// Does one step as the collector does it.
    fn collect(&mut self, place: usize, directions: &[Direction], days: DaySelection) -> Result<(), TestCaseError> {
        let now = self.situation.now;
        let (yesterday, left) = (day::yesterday(now), self.situation.flights.remaining);
        // A day that a probe finds is collected at once.
        let is_first = days == DaySelection::Probe || self.is_first(place);
        let mut queue = directions.to_vec();
        let (mut turn, mut unpublished, mut failed) = (0, false, false);
        while let Some(direction) = queue.get(turn).copied().filter(|_| !failed) {
            turn += 1;
            let tried = match days {
                DaySelection::Probe => vec![yesterday],
                DaySelection::DayBefore => vec![day::before(yesterday)],
                DaySelection::Newest | DaySelection::NewestForWaiting if unpublished => vec![day::before(yesterday)],
                DaySelection::Newest | DaySelection::NewestForWaiting => vec![yesterday, day::before(yesterday)],
            };
            for asked in tried {
                let answer = self.ask(place, direction, asked)?;
                failed = answer.is_none();
                if answer == Some(true) {
                    let need = &mut self.situation.daily[place];
                    need.directions.iter_mut().filter(|of| of.0 == direction).for_each(|of| of.1 = Some(asked));
                    if days == DaySelection::Probe && turn == 1 {
                        queue = Direction::ALL.to_vec();
                    }
                }
                unpublished |= asked == yesterday && answer == Some(false);
                if answer != Some(false) {
                    break;
                }
            }
        }
        if unpublished || (failed && days == DaySelection::Probe) {
            self.situation.probed_at = Some(now);
            let probed = &mut self.situation.daily[place].probed;
            *probed = Probed { at: Some(now), times: probed.times + 1 };
        }
        let spent = left - self.situation.flights.remaining;
        if days == DaySelection::Probe && (unpublished || failed) {
            return Ok(());
        }
        if is_first {
            self.spent_first += spent;
        }
        self.tried[place] += 1;
        let need = &mut self.situation.daily[place];
        need.attempted_at = Some(now);
        need.failures = if failed { need.failures + 1 } else { 0 };
        need.requested = false;
        self.check(is_first)
    }

    /// One question: whether the day is held now; none where there was no answer.
    fn ask(&mut self, place: usize, direction: Direction, asked: NaiveDate) -> Result<Option<bool>, TestCaseError> {
        let situation = &mut self.situation;
        let (now, cost) = (situation.now, situation.flights.flights_cost());
        let last = self.asked_at.insert((place, direction, asked), now);
        prop_assert!(last.is_none_or(|last| now - last >= situation.interval), "asked again too soon");
        prop_assert!(cost <= situation.flights.remaining, "{cost} of {}", situation.flights.remaining);
        situation.flights.remaining -= cost;
        if self.down[0] <= now && now < self.down[1] {
            return Ok(None);
        }
        let is_yesterday = asked == day::yesterday(now);
        let is_there =
            if is_yesterday { self.yesterday_from.is_some_and(|from| from <= now) } else { self.before_is_there };
        let known =
            if is_yesterday { &mut situation.yesterday_published_at } else { &mut situation.before_published_at };
        if is_there && !self.quiet[place] {
            known.get_or_insert(now);
        }
        Ok(Some(known.is_some()))
    }

    /// Whether the airport was not asked since there is a newer day.
    fn is_first(&self, place: usize) -> bool {
        let midnight = Some(at("00:00:00"));
        let since = midnight.max(self.situation.before_published_at).max(self.situation.yesterday_published_at);
        self.situation.daily[place].attempted_at.is_none_or(|at| Some(at) < since)
    }

    /// Whatever was asked again, it was not more than its share of the day, and left something for a user who comes
    /// now.
    fn check(&self, is_first: bool) -> Result<(), TestCaseError> {
        let Situation { now, tier, flights, .. } = self.situation;
        let (left, cost) = (flights.remaining, flights.flights_cost());
        let round = u32::try_from(self.situation.daily.len() * 2).unwrap() * cost;
        let even = Credits::evenly(tier, now) / 2;
        prop_assert!(
            left + self.spent_first + round >= even,
            "{left} at {now} after {} for new days",
            self.spent_first
        );
        prop_assert!(is_first || left >= 2 * cost, "{left} at {now}");
        Ok(())
    }

    /// How many directions hold yesterday.
    fn collected(&self) -> usize {
        let yesterday = day::yesterday(at("00:00:00"));
        let directions = self.situation.daily.iter().flat_map(|need| &need.directions);
        directions.filter(|(_, held)| *held == Some(yesterday)).count()
    }
}

/// Buckets and numbers of airports.
fn sizes() -> impl Strategy<Value = (u32, usize)> {
    (prop::sample::select(vec![400u32, 4_000, 8_000]), prop::sample::select(vec![1usize, 5, 30, 120]))
}

proptest! {
    #![proptest_config(days(64))]

    /// Whatever is published and when, and however long nothing is answered: the bucket lasts the day, no question is
    /// repeated sooner than the interval, and no airport is left out while others are asked again.
    #[test]
    fn a_day_of_flights_by_the_plan_gives_every_airport_its_share(
        (full, airports) in sizes(), cost in prop::sample::select(vec![4u32, 30]),
        published in prop::option::of(0i64..20), before_is_there: bool, held: bool,
        quiet in 0usize..3, down in 0i64..24, down_hours in 0i64..8, newcomer in 1i64..24,
    ) {
        let begin = at("00:00:00");
        let mut day = Day::new(full, airports);
        day.situation.flights.seen_cost = Some(cost);
        day.yesterday_from = published.map(|hours| begin + TimeDelta::hours(hours));
        day.before_is_there = before_is_there || published.is_some();
        day.quiet.iter_mut().take(quiet).for_each(|quiet| *quiet = true);
        day.down = [begin + TimeDelta::hours(down), begin + TimeDelta::hours(down + down_hours)];
        if held && day.before_is_there { day.hold_the_day_before() }
        day.run_until(begin + TimeDelta::hours(newcomer))?;

        // A user comes who watches another airport, and does not wait for those asked again.
        let first = 2 * cost * u32::try_from(airports).unwrap();
        let at_once = 3 * cost + 2 * first <= full * 9 / 10;
        day.situation.daily.push(DailyNeed { requested: true, ..daily("NEW", [None, None], None) });
        day.quiet.push(false);
        day.tried.push(0);
        day.run_until(day.situation.now + TimeDelta::seconds(1))?;
        prop_assert!(!at_once || day.tried[airports] == 1, "{} left", day.situation.flights.remaining);

        day.run_until(end_of_day(begin))?;
        let tried = &day.tried[..airports];
        let affordable = full / (4 * cost);
        let least = tried.iter().copied().min().unwrap_or_default();
        prop_assert!(held || least >= 1 || usize::try_from(affordable).unwrap() < airports, "{tried:?}");
        if published.is_none() && down_hours == 0 {
            let most = tried.iter().copied().max().unwrap_or_default();
            prop_assert!(most - least <= 2, "all alike, and asked {tried:?}");
        }
        if published.is_some_and(|hours| hours <= 16) && down_hours == 0 && airports > quiet {
            let for_airports = full - full / 20 - 3 * cost;
            let expected = (2 * airports).min(usize::try_from(for_airports / cost).unwrap() / 4);
            prop_assert!(day.collected() >= expected, "{} of {expected}", day.collected());
        }
    }
}
