//! The credit planner: what to ask next, when, and how long the credits last.
//!
//! The planner is asked again after every step, with what is known then, so it never has to foresee
//! failures: it spreads what is left over what is left of the day. `live` figures of all airports are
//! taken in one cycle. Daily figures go by four rules, in this order: an airport that somebody waits
//! for; a published day that is not held yet; a probe whether yesterday is published; and, from what
//! remains, days that are held once more, for corrections.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{
    boxes::{self, BoxCall},
    credits::{Bucket, Credits, Tier, end_of_day},
    day::{self, Direction},
    geo::Position,
};

/// However scarce credits are, look for a new day this often: without it nothing would ever be collected.
const LONGEST_PROBE_INTERVAL: TimeDelta = TimeDelta::hours(3);

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
    /// Whether the day before `now`'s is known to be published.
    pub yesterday_published: bool,
    /// When that day was last looked for in vain.
    pub probed_at: Option<DateTime<Utc>>,
}

/// An airport whose sky somebody watches.
#[derive(Clone, Debug)]
pub struct LiveNeed {
    /// Its ICAO code.
    pub airport: String,
    /// Where it is.
    pub position: Position,
    /// When it was last asked for, successfully or not.
    pub attempted_at: Option<DateTime<Utc>>,
    /// Whether somebody waits for it.
    pub requested: bool,
}

/// An airport whose finished days somebody watches.
#[derive(Clone, Debug)]
pub struct DailyNeed {
    /// Its ICAO code.
    pub airport: String,
    /// Which directions are watched, and the newest day that is held of each.
    pub directions: Vec<(Direction, Option<NaiveDate>)>,
    /// When it was last asked for, successfully or not.
    pub attempted_at: Option<DateTime<Utc>>,
    /// Whether somebody waits for it.
    pub requested: bool,
    /// How many flights its newest day had: the busiest airport is the best probe.
    pub traffic: i64,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask for boxes.
    Live {
        /// The airports to count at, as places in [`Situation::live`].
        airports: Vec<usize>,
        /// The boxes; their airports are places in `airports`.
        calls: Vec<BoxCall>,
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
        days: AskFor,
    },
}

/// Which days a daily step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskFor {
    /// Yesterday, and the day before where yesterday is not published.
    Newest,
    /// The day before yesterday: yesterday was looked for in vain a short while ago.
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
pub struct Plan {
    /// What to do at once.
    pub step: Option<Step>,
    /// When to plan again at the latest.
    pub wake_at: DateTime<Utc>,
    /// When each airport will be collected next: live ones, then daily ones, in the situation's order.
    pub next_at: Vec<(String, Kind, DateTime<Utc>)>,
    /// How each bucket fares.
    pub outlook: [Outlook; 2],
}

/// How long a bucket lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
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
pub fn plan(situation: &Situation) -> Plan {
    let live = LivePlan::of(situation);
    let daily = DailyPlan::of(situation);
    let wake_at = live.next_at.iter().chain(&daily.next_at).copied().chain(daily.wake_at).min();
    let live_next = situation.live.iter().zip(&live.next_at).map(|(need, at)| (need.airport.clone(), Kind::Live, *at));
    let daily_next =
        situation.daily.iter().zip(&daily.next_at).map(|(need, at)| (need.airport.clone(), Kind::Daily, *at));
    Plan {
        step: live.step.or(daily.step),
        // At midnight buckets are filled and there is another yesterday.
        wake_at: wake_at.map_or_else(|| end_of_day(situation.now), |at| at.min(end_of_day(situation.now))),
        next_at: live_next.chain(daily_next).collect(),
        outlook: [
            outlook(Bucket::States, &situation.states, live.round_cost, live.pace, situation.now),
            outlook(Bucket::Flights, &situation.flights, daily.round_cost, daily.pace, situation.now),
        ],
    }
}

fn outlook(bucket: Bucket, credits: &Credits, cost: u32, pace: Option<TimeDelta>, now: DateTime<Utc>) -> Outlook {
    let end = end_of_day(now);
    let rounds = credits.remaining.checked_div(cost).and_then(|rounds| i32::try_from(rounds).ok());
    let lasts_until = match (rounds, pace) {
        (Some(0), _) => now,
        (Some(rounds), Some(pace)) => (now + (pace * rounds).min(TimeDelta::days(1))).min(end),
        _ => end,
    };
    Outlook { bucket, remaining: credits.remaining, lasts_until, pace, paused_until: credits.paused_until }
}

/// The time between two rounds that cost `cost` each, when `credits` are spread over what is left of
/// the day; never less than `interval`, and none when not even one is affordable.
fn stretched(credits: u32, cost: u32, now: DateTime<Utc>, interval: TimeDelta) -> Option<TimeDelta> {
    let rounds = credits.checked_div(cost).filter(|rounds| *rounds > 0)?;
    let rounds = i32::try_from(rounds).unwrap_or(i32::MAX);
    Some(((end_of_day(now) - now) / rounds).max(interval))
}

struct LivePlan {
    step: Option<Step>,
    next_at: Vec<DateTime<Utc>>,
    round_cost: u32,
    pace: Option<TimeDelta>,
}

impl LivePlan {
    fn of(situation: &Situation) -> Self {
        let now = situation.now;
        let needs = &situation.live;
        let everywhere: Vec<_> = needs.iter().map(|need| need.position).collect();
        let round_cost = boxes::cost(&boxes::calls(&everywhere));
        let spendable = situation.states.remaining.saturating_sub(Credits::reserve(situation.tier, now));
        let pace = stretched(spendable, round_cost, now, situation.interval);
        let cycle_at = cycle_at(situation, pace, round_cost);
        let is_due = |need: &LiveNeed| need.attempted_at.is_none_or(|at| at + situation.interval <= now);
        let regular = cycle_at <= now;
        let chosen: Vec<usize> =
            (0..needs.len()).filter(|place| needs[*place].requested || (regular && is_due(&needs[*place]))).collect();
        let positions: Vec<_> = chosen.iter().map(|place| needs[*place].position).collect();
        let calls = boxes::calls(&positions);
        let at_once = situation.states.affordable_at(boxes::cost(&calls), now);
        let next_at = needs.iter().map(|need| {
            if need.requested {
                return at_once;
            }
            let free_at = need.attempted_at.map_or(now, |at| at + situation.interval);
            if free_at <= cycle_at { cycle_at } else { cycle_at + pace.unwrap_or(situation.interval) }
        });
        let next_at = next_at.collect();
        let step = (!chosen.is_empty() && at_once <= now).then_some(Step::Live { airports: chosen, calls, regular });
        Self { step, next_at, round_cost, pace }
    }
}

/// When the next regular cycle begins.
fn cycle_at(situation: &Situation, pace: Option<TimeDelta>, cost: u32) -> DateTime<Utc> {
    let now = situation.now;
    let Some(pace) = pace else { return situation.states.affordable_at(cost, now).max(end_of_day(now)) };
    let in_pace = situation.cycle_begun_at.map_or(now, |begun| begun + pace);
    // A cycle without anybody in it would only shift the others.
    let first_free =
        situation.live.iter().map(|need| need.attempted_at.map_or(now, |at| at + situation.interval)).min();
    in_pace.max(first_free.unwrap_or(now)).max(situation.states.affordable_at(cost, now))
}

struct DailyPlan {
    step: Option<Step>,
    next_at: Vec<DateTime<Utc>>,
    /// When to look for a new day, which no airport's own time may say.
    wake_at: Option<DateTime<Utc>>,
    round_cost: u32,
    pace: Option<TimeDelta>,
}

impl DailyPlan {
    fn of(situation: &Situation) -> Self {
        let budget = DailyBudget::of(situation);
        let probe_at = budget.probe_at(situation);
        let asks: Vec<Ask> = (0..situation.daily.len()).map(|place| budget.ask(situation, place, probe_at)).collect();
        let due = asks.iter().filter(|ask| ask.at <= situation.now);
        let first = due.min_by_key(|ask| (ask.urgency, situation.daily[ask.airport].attempted_at));
        let mut step = first.map(|ask| ask.step(situation, &budget));
        // A probe comes before anything that is only asked once more.
        if let Some(place) = best_probe(situation).filter(|_| probe_at.is_some_and(|at| at <= situation.now))
            && first.is_none_or(|ask| ask.urgency == Urgency::OnceMore)
        {
            let direction = situation.daily[place].directions.first().map(|(direction, _)| *direction);
            let directions = direction.into_iter().collect();
            step = Some(Step::Daily { airport: place, directions, days: AskFor::Probe });
        }
        let next_at = asks.iter().map(|ask| match ask.urgency {
            // A day that turns out to be published is collected at once.
            Urgency::OnceMore => probe_at.map_or(ask.at, |at| at.min(ask.at)),
            Urgency::Waiting | Urgency::Missing => ask.at,
        });
        let next_at = next_at.collect();
        let pace = match (budget.pace, probe_at) {
            (Some(pace), _) => Some(pace),
            (None, Some(_)) => Some(budget.probe_interval),
            (None, None) => None,
        };
        Self { step, next_at, wake_at: probe_at, round_cost: budget.round_cost, pace }
    }
}

/// How the rest of the day's credits for flights are divided.
struct DailyBudget {
    /// One call.
    cost: u32,
    /// Every watched direction once.
    round_cost: u32,
    probe_interval: TimeDelta,
    /// The time between two rounds over days that are held; none when nothing remains for them.
    pace: Option<TimeDelta>,
    /// The newest day to be held everywhere.
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
        let probe_interval = stretched(spare, cost, now, situation.interval).unwrap_or(LONGEST_PROBE_INTERVAL);
        let probe_interval = probe_interval.min(LONGEST_PROBE_INTERVAL).max(situation.interval);
        let probes = (end_of_day(now) - now).num_seconds() / probe_interval.num_seconds().max(1);
        let for_probes = if situation.yesterday_published { 0 } else { calls(usize::try_from(probes).unwrap_or(0)) };
        let pace = stretched(spare.saturating_sub(for_probes), round_cost, now, situation.interval);
        Self { cost, round_cost, probe_interval, pace, target }
    }

    /// When to look whether yesterday is published; none when it is, or when nobody watches.
    fn probe_at(&self, situation: &Situation) -> Option<DateTime<Utc>> {
        if situation.yesterday_published || situation.daily.is_empty() {
            return None;
        }
        let due = situation.probed_at.map_or(situation.now, |at| at + self.probe_interval);
        Some(due.max(situation.flights.affordable_at(self.cost, situation.now)))
    }

    /// What the airport at `place` needs, and when it can have it.
    fn ask(&self, situation: &Situation, place: usize, probe_at: Option<DateTime<Utc>>) -> Ask {
        let need = &situation.daily[place];
        let now = situation.now;
        let is_missing = |held: Option<NaiveDate>| held.is_none_or(|held| held < self.target);
        let missing = need.directions.iter().filter(|(_, held)| is_missing(*held)).map(|(direction, _)| *direction);
        let missing: Vec<Direction> = missing.collect();
        let probing = u32::from(probe_at.is_some_and(|at| at <= now) && !missing.is_empty());
        let calls = u32::try_from(missing.len()).unwrap_or(u32::MAX).saturating_add(probing);
        let affordable_at = situation.flights.affordable_at(self.cost.saturating_mul(calls), now);
        let free_at = need.attempted_at.map_or(now, |at| at + situation.interval);
        let (urgency, at) = if need.requested {
            (Urgency::Waiting, if missing.is_empty() { now } else { affordable_at })
        } else if !missing.is_empty() {
            (Urgency::Missing, free_at.max(affordable_at))
        } else {
            let in_pace = self.pace.map(|pace| need.attempted_at.map_or(now, |at| at + pace));
            let round = situation.flights.affordable_at(self.round_cost, now);
            (Urgency::OnceMore, in_pace.map_or_else(|| end_of_day(now), |at| at.max(round)))
        };
        Ask { airport: place, missing, urgency, at, probing: probing > 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Somebody waits.
    Waiting,
    /// A day that is published, or may be, is not held.
    Missing,
    /// All is held; ask once more for corrections.
    OnceMore,
}

struct Ask {
    airport: usize,
    missing: Vec<Direction>,
    urgency: Urgency,
    at: DateTime<Utc>,
    probing: bool,
}

impl Ask {
    fn step(&self, situation: &Situation, budget: &DailyBudget) -> Step {
        let all = || situation.daily[self.airport].directions.iter().map(|(direction, _)| *direction).collect();
        let directions = if self.urgency == Urgency::OnceMore { all() } else { self.missing.clone() };
        let yesterday = budget.target == day::yesterday(situation.now);
        let days = if yesterday || self.probing { AskFor::Newest } else { AskFor::DayBefore };
        Step::Daily { airport: self.airport, directions, days }
    }
}

/// The airport most likely to have flights on any day; of equal ones the one not tried for longest.
fn best_probe(situation: &Situation) -> Option<usize> {
    let needs = &situation.daily;
    let oldest = |place: &usize| std::cmp::Reverse(needs[*place].attempted_at);
    (0..needs.len()).max_by_key(|place| (needs[*place].traffic, oldest(place)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARIS: Position = Position { latitude: 49.0097, longitude: 2.5479 };
    const ORLY: Position = Position { latitude: 48.7233, longitude: 2.3794 };

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-21T{text}Z").parse().expect("a time")
    }

    fn date(text: &str) -> NaiveDate {
        text.parse().expect("a date")
    }

    fn situation(now: DateTime<Utc>) -> Situation {
        Situation {
            now,
            interval: TimeDelta::seconds(300),
            tier: Tier::Standard,
            states: Credits::assumed(Tier::Standard, now),
            flights: Credits::assumed(Tier::Standard, now),
            cycle_begun_at: None,
            live: Vec::new(),
            daily: Vec::new(),
            yesterday_published: false,
            probed_at: None,
        }
    }

    fn live(airport: &str, position: Position, attempted_at: Option<DateTime<Utc>>) -> LiveNeed {
        LiveNeed { airport: airport.to_owned(), position, attempted_at, requested: false }
    }

    fn daily(airport: &str, held: [Option<NaiveDate>; 2], attempted_at: Option<DateTime<Utc>>) -> DailyNeed {
        let directions = Direction::ALL.into_iter().zip(held).collect();
        DailyNeed { airport: airport.to_owned(), directions, attempted_at, requested: false, traffic: 10 }
    }

    #[test]
    fn nothing_watched_sleeps_to_the_end_of_the_day() {
        let plan = plan(&situation(at("10:00:00")));
        assert!(plan.step.is_none() && plan.next_at.is_empty());
        assert_eq!(plan.wake_at, at("00:00:00") + TimeDelta::days(1));
    }

    #[test]
    fn one_cycle_takes_neighbours_in_one_box() {
        let mut situation = situation(at("10:00:00"));
        situation.live = vec![live("LFPG", PARIS, None), live("LFPO", ORLY, None)];
        let Some(Step::Live { airports, calls, regular: true }) = plan(&situation).step else { panic!("a cycle") };
        assert_eq!((airports, calls.len(), boxes::cost(&calls)), (vec![0, 1], 1, 1));
    }

    #[test]
    fn a_cycle_waits_for_its_time() {
        let mut situation = situation(at("10:04:00"));
        situation.live = vec![live("LFPG", PARIS, Some(at("10:00:00")))];
        situation.cycle_begun_at = Some(at("10:00:00"));
        let quiet = plan(&situation);
        assert_eq!((quiet.step, quiet.wake_at), (None, at("10:05:00")));
        situation.now = at("10:05:00");
        assert!(plan(&situation).step.is_some());
    }

    #[test]
    fn a_request_is_served_between_cycles_alone_and_joins_a_later_cycle() {
        let mut situation = situation(at("10:02:00"));
        situation.cycle_begun_at = Some(at("10:00:00"));
        situation.live = vec![live("LFPG", PARIS, Some(at("10:00:00"))), live("LFPO", ORLY, None)];
        situation.live[1].requested = true;
        let Some(Step::Live { airports, regular: false, .. }) = plan(&situation).step else { panic!("at once") };
        assert_eq!(airports, [1]);
        situation.live[1] = live("LFPO", ORLY, Some(at("10:02:00")));
        let next: Vec<_> = plan(&situation).next_at.into_iter().map(|(_, _, at)| at).collect();
        assert_eq!(next, [at("10:05:00"), at("10:10:00")]);
    }

    #[test]
    fn scarce_credits_stretch_the_cycle_over_the_day() {
        let mut situation = situation(at("12:00:00"));
        situation.tier = Tier::Anonymous;
        situation.states = Credits { remaining: 34, ..Credits::assumed(Tier::Anonymous, situation.now) };
        situation.live = vec![live("LFPG", PARIS, Some(at("12:00:00")))];
        situation.cycle_begun_at = Some(at("12:00:00"));
        // 34 less a reserve of 10 leaves 24 cycles for twelve hours.
        let plan = plan(&situation);
        assert_eq!(plan.wake_at, at("12:30:00"));
        assert_eq!(plan.outlook[0].lasts_until, end_of_day(situation.now));
    }

    #[test]
    fn without_credits_or_in_a_pause_a_request_waits_and_says_until_when() {
        let mut situation = situation(at("12:00:00"));
        situation.live = vec![LiveNeed { requested: true, ..live("LFPG", PARIS, None) }];
        situation.states.remaining = 0;
        let empty = plan(&situation);
        assert_eq!((empty.step, empty.next_at[0].2), (None, end_of_day(situation.now)));
        situation.states = Credits::assumed(Tier::Standard, situation.now).after_refusal(situation.now, Some(38_715));
        let paused = plan(&situation);
        assert_eq!((paused.step, paused.next_at[0].2), (None, at("22:45:15")));
    }

    #[test]
    fn a_new_airport_is_asked_for_yesterday_first() {
        let mut situation = situation(at("10:00:00"));
        situation.daily = vec![DailyNeed { requested: true, ..daily("KSFO", [None, None], None) }];
        let step = plan(&situation).step;
        let directions = Direction::ALL.to_vec();
        assert_eq!(step, Some(Step::Daily { airport: 0, directions: directions.clone(), days: AskFor::Newest }));
        situation.probed_at = Some(at("09:59:00"));
        let step = plan(&situation).step;
        assert_eq!(step, Some(Step::Daily { airport: 0, directions, days: AskFor::DayBefore }));
    }

    #[test]
    fn what_is_held_needs_no_call_for_whoever_waits() {
        let mut situation = situation(at("10:00:00"));
        let held = Some(date("2026-11-19"));
        situation.daily = vec![DailyNeed { requested: true, ..daily("KSFO", [held, held], Some(at("09:59:00"))) }];
        situation.flights.remaining = 0;
        let step = plan(&situation).step;
        assert_eq!(
            step,
            Some(Step::Daily { airport: 0, directions: Vec::new(), days: AskFor::Newest }).map(|step| {
                let Step::Daily { airport, directions, .. } = step else { panic!("a daily step") };
                Step::Daily { airport, directions, days: AskFor::DayBefore }
            })
        );
    }

    #[test]
    fn an_unpublished_day_is_looked_for_at_the_busiest_airport_before_anything_is_asked_again() {
        let mut situation = situation(at("10:00:00"));
        let held = Some(date("2026-11-19"));
        situation.flights = Credits { seen_cost: Some(4), ..situation.flights };
        situation.daily = vec![daily("LICC", [held, held], None), daily("KSFO", [held, held], None)];
        situation.daily[1].traffic = 900;
        let probe = Step::Daily { airport: 1, directions: vec![Direction::Arrival], days: AskFor::Probe };
        assert_eq!(plan(&situation).step, Some(probe));
        situation.probed_at = Some(situation.now);
        let step = plan(&situation).step;
        assert_eq!(
            step,
            Some(Step::Daily { airport: 0, directions: Direction::ALL.to_vec(), days: AskFor::DayBefore })
        );
    }

    #[test]
    fn a_published_day_is_collected_wherever_it_is_missing() {
        let mut situation = situation(at("10:00:00"));
        situation.yesterday_published = true;
        let (old, new) = (Some(date("2026-11-19")), Some(date("2026-11-20")));
        situation.daily = vec![daily("KSFO", [new, old], Some(at("09:00:00")))];
        let step = plan(&situation).step;
        assert_eq!(
            step,
            Some(Step::Daily { airport: 0, directions: vec![Direction::Departure], days: AskFor::Newest })
        );
        // A failed attempt is not repeated at once.
        situation.daily[0].attempted_at = Some(at("09:58:00"));
        let plan = plan(&situation);
        assert_eq!((plan.step, plan.next_at[0].2), (None, at("10:03:00")));
    }

    #[test]
    fn a_day_that_is_held_is_asked_again_only_as_credits_allow() {
        let mut situation = situation(at("12:00:00"));
        situation.yesterday_published = true;
        let held = Some(date("2026-11-20"));
        situation.daily = vec![daily("KSFO", [held, held], Some(at("12:00:00")))];
        // 4,000 less a reserve of 100 are 65 rounds of 60 credits in twelve hours.
        let expected = at("12:00:00") + TimeDelta::hours(12) / 65;
        assert_eq!(plan(&situation).next_at[0].2, expected);
        situation.flights.remaining = 80;
        let plan = plan(&situation);
        assert_eq!((plan.next_at[0].2, plan.outlook[1].pace), (end_of_day(situation.now), None));
        // With credits enough, as a feeder's account has, the setting decides.
        situation.flights = Credits { remaining: 8_000, seen_cost: Some(4), ..situation.flights };
        assert_eq!(super::plan(&situation).next_at[0].2, at("12:05:00"));
    }

    #[test]
    fn scarcity_never_ends_the_search_for_a_new_day() {
        let mut situation = situation(at("12:00:00"));
        let held = Some(date("2026-11-19"));
        situation.daily = (0..100).map(|_| daily("KSFO", [held, held], Some(at("11:00:00")))).collect();
        situation.flights.remaining = 300;
        situation.probed_at = Some(at("10:00:00"));
        let plan = plan(&situation);
        assert_eq!((plan.step, plan.wake_at), (None, at("13:00:00")));
    }

    proptest! {
        /// However the day goes, whoever follows the plan never spends more than there is, never asks
        /// for an airport sooner than the interval says, and still has credits in the last hour.
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
                if let Some(Step::Live { airports, calls, .. }) = plan.step {
                    let cost = boxes::cost(&calls);
                    prop_assert!(cost <= situation.states.remaining);
                    situation.states = situation.states.after_call(cost, None);
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
}
