mod days;

use super::*;
use crate::core::boxes;

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
        yesterday_published_at: None,
        before_published_at: None,
        probed_at: None,
        probe_deferred_at: None,
    }
}

fn live(airport: &str, position: Position, attempted_at: Option<DateTime<Utc>>) -> LiveNeed {
    LiveNeed { airport: airport.to_owned(), position, attempted_at, requested: false, alone: false }
}

fn daily(airport: &str, held: [Option<NaiveDate>; 2], attempted_at: Option<DateTime<Utc>>) -> DailyNeed {
    let directions = Direction::ALL.into_iter().zip(held).collect();
    DailyNeed {
        airport: airport.to_owned(),
        directions,
        attempted_at,
        failures: 0,
        requested: false,
        traffic: FlightCount::new(10),
        probed: Probed::default(),
    }
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
    let Some(CollectionStep::Live { airports, calls, regular: true }) = plan(&situation).step else {
        panic!("a cycle")
    };
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
    let Some(CollectionStep::Live { airports, regular: false, .. }) = plan(&situation).step else { panic!("at once") };
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
    assert_eq!(plan.budget_report[0].lasts_until, end_of_day(situation.now));
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
    assert_eq!(
        step,
        Some(CollectionStep::Daily { airport: 0, directions: directions.clone(), days: DaySelection::Newest })
    );
    // Another airport has found that day unpublished, which says nothing about this one.
    situation.probed_at = Some(at("09:59:00"));
    let step = plan(&situation).step;
    assert_eq!(
        step,
        Some(CollectionStep::Daily {
            airport: 0,
            directions: directions.clone(),
            days: DaySelection::NewestForWaiting
        })
    );
    // The request may come later than the plan.
    situation.daily[0].requested = false;
    assert_eq!(plan(&situation).step, step);
    situation.daily[0].requested = true;
    // Only where it was itself asked a moment ago.
    situation.daily[0].probed = Probed { at: Some(at("09:59:00")), times: 1 };
    let step = plan(&situation).step;
    assert_eq!(step, Some(CollectionStep::Daily { airport: 0, directions, days: DaySelection::DayBefore }));
}

#[test]
fn the_search_for_a_new_day_moves_on_from_an_airport_that_has_nothing_to_say() {
    let mut situation = situation(at("10:00:00"));
    let held = Some(date("2026-11-19"));
    situation.daily = ["LICC", "LFOB", "KSFO"].map(|airport| daily(airport, [held, held], None)).to_vec();
    situation.flights = Credits { seen_cost: Some(4), ..situation.flights };
    for (need, traffic) in situation.daily.iter_mut().zip([0, 0, 5]) {
        need.traffic = FlightCount::new(traffic);
    }
    let mut probed = Vec::new();
    for _ in 0..9 {
        let Some(CollectionStep::Daily { airport, days: DaySelection::Probe, .. }) = plan(&situation).step else {
            panic!("a probe")
        };
        probed.push(airport);
        situation.daily[airport].probed.times += 1;
    }
    assert_eq!(probed, [2, 2, 2, 1, 0, 1, 0, 1, 0], "and so on, each in its turn");
}

#[test]
fn stored_times_ahead_of_the_clock_keep_nothing_from_being_asked() {
    let mut situation = situation(at("10:00:00"));
    let ahead = Some(situation.now + TimeDelta::hours(6));
    let held = Some(date("2026-11-19"));
    situation.cycle_begun_at = ahead;
    situation.live = vec![live("LFPG", PARIS, ahead)];
    situation.daily = vec![daily("KSFO", [held, held], ahead)];
    (situation.probed_at, situation.probe_deferred_at) = (ahead, ahead);
    situation.daily[0].probed.at = ahead;
    assert!(plan(&situation).step.is_none(), "which is what they would do");
    let mended = situation.without_times_ahead();
    assert!(matches!(plan(&mended).step, Some(CollectionStep::Live { .. })));
    let daily_alone = Situation { live: Vec::new(), ..mended };
    assert!(matches!(plan(&daily_alone).step, Some(CollectionStep::Daily { days: DaySelection::Probe, .. })));
    // A day stays published.
    let published = Situation { yesterday_published_at: ahead, before_published_at: ahead, ..daily_alone };
    let published = published.without_times_ahead();
    assert_eq!(published.yesterday_published_at, Some(at("00:00:00")));
    assert!(matches!(plan(&published).step, Some(CollectionStep::Daily { days: DaySelection::Newest, .. })));
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
        Some(CollectionStep::Daily { airport: 0, directions: Vec::new(), days: DaySelection::Newest }).map(|step| {
            let CollectionStep::Daily { airport, directions, .. } = step else { panic!("a daily step") };
            CollectionStep::Daily { airport, directions, days: DaySelection::DayBefore }
        })
    );
}

#[test]
fn an_unpublished_day_is_looked_for_at_the_busiest_airport_before_anything_is_asked_again() {
    let mut situation = situation(at("10:00:00"));
    let held = Some(date("2026-11-19"));
    situation.flights = Credits { seen_cost: Some(4), ..situation.flights };
    situation.daily = vec![daily("LICC", [held, held], None), daily("KSFO", [held, held], None)];
    situation.daily[1].traffic = FlightCount::new(900);
    let probe = CollectionStep::Daily { airport: 1, directions: vec![Direction::Arrival], days: DaySelection::Probe };
    assert_eq!(plan(&situation).step, Some(probe));
    // Where nothing could be asked, it is looked for an interval later.
    situation.probe_deferred_at = Some(situation.now);
    assert_eq!(DailySchedule::of(&situation).probe_at, Some(situation.now + situation.interval));
    situation.probed_at = Some(situation.now);
    let step = plan(&situation).step;
    assert_eq!(
        step,
        Some(CollectionStep::Daily { airport: 0, directions: Direction::ALL.to_vec(), days: DaySelection::DayBefore })
    );
}

#[test]
fn a_published_day_is_collected_wherever_it_is_missing() {
    let mut situation = situation(at("10:00:00"));
    situation.yesterday_published_at = Some(at("00:00:00"));
    let (old, new) = (Some(date("2026-11-19")), Some(date("2026-11-20")));
    situation.daily = vec![daily("KSFO", [new, old], Some(at("09:00:00")))];
    let step = plan(&situation).step;
    assert_eq!(
        step,
        Some(CollectionStep::Daily { airport: 0, directions: vec![Direction::Departure], days: DaySelection::Newest })
    );
    // A failed attempt is not repeated at once.
    situation.daily[0].attempted_at = Some(at("09:58:00"));
    let plan = plan(&situation);
    assert_eq!((plan.step, plan.next_at[0].2), (None, at("10:03:00")));
}

#[test]
fn a_day_that_is_held_is_asked_again_only_as_credits_allow() {
    let mut situation = situation(at("12:00:00"));
    situation.yesterday_published_at = Some(at("00:00:00"));
    let held = Some(date("2026-11-20"));
    situation.daily = vec![daily("KSFO", [held, held], Some(at("12:00:00")))];
    // 4,000 less a reserve of 100 are 65 rounds of 60 credits in twelve hours.
    let expected = at("12:00:00") + TimeDelta::hours(12) / 65;
    assert_eq!(plan(&situation).next_at[0].2, expected);
    situation.flights.remaining = 80;
    let plan = plan(&situation);
    assert_eq!((plan.next_at[0].2, plan.budget_report[1].pace), (end_of_day(situation.now), None));
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

#[test]
fn credits_that_do_not_suffice_for_all_who_wait_serve_some_of_them() {
    let mut situation = situation(at("12:00:00"));
    let far = Position { latitude: -33.9, longitude: 18.6 };
    situation.live = vec![live("LFPG", PARIS, Some(at("11:00:00"))), live("FACT", far, None)];
    situation.live.iter_mut().for_each(|need| need.requested = true);
    situation.states.remaining = 1;
    let plan = plan(&situation);
    let Some(CollectionStep::Live { airports, calls, regular: false }) = plan.step else { panic!("a call") };
    assert_eq!((airports, boxes::cost(&calls)), (vec![1], 1));
    assert_eq!([plan.next_at[0].2, plan.next_at[1].2], [end_of_day(situation.now), situation.now]);
}

#[test]
fn an_airport_whose_shared_box_was_refused_has_its_own() {
    let mut situation = situation(at("10:00:00"));
    let beauvais = Position { latitude: 49.4544, longitude: 2.1128 };
    situation.live = vec![live("LFPG", PARIS, None), live("LFPO", ORLY, None), live("LFOB", beauvais, None)];
    situation.live[1].alone = true;
    let Some(CollectionStep::Live { mut calls, .. }) = plan(&situation).step else { panic!("a cycle") };
    calls.sort_by_key(|call| call.airports.clone());
    let airports: Vec<_> = calls.into_iter().map(|call| call.airports).collect();
    assert_eq!(airports, [vec![0, 2], vec![1]]);
}

#[test]
fn a_day_that_is_not_found_is_looked_for_less_and_less_often_but_never_less_than_the_credits_allow() {
    let mut situation = situation(at("12:00:00"));
    situation.yesterday_published_at = Some(at("00:00:00"));
    let old = Some(date("2026-11-18"));
    situation.daily = vec![daily("LICC", [old, old], Some(at("12:00:00")))];
    let waits = [0, 1, 2, 3, 4, 40].map(|failures| {
        situation.daily[0].failures = failures;
        (plan(&situation).next_at[0].2 - situation.now).num_seconds()
    });
    // 4,000 less a reserve of 100 are 65 rounds of 60 in twelve hours. An answer was no failure.
    assert_eq!(waits, [664, 300, 600, 664, 664, 664]);
    // Where less than half of an even share is left, it is tried again soon only once.
    situation.flights.remaining = 1_000;
    let soon = |need: DailyNeed| {
        let situation = Situation { daily: vec![need], ..situation.clone() };
        plan(&situation).next_at[0].2 == at("12:05:00")
    };
    let failed = |failures| DailyNeed { failures, ..situation.daily[0].clone() };
    assert_eq!([0, 1, 2].map(|failures| soon(failed(failures))), [false, true, false]);
    assert!(!soon(DailyNeed { requested: true, ..failed(0) }), "nor for whoever comes");
}

#[test]
fn more_airports_than_credits_are_collected_one_by_one_through_the_day() {
    let mut situation = situation(at("00:00:00"));
    situation.yesterday_published_at = Some(at("00:00:00"));
    let old = Some(date("2026-11-19"));
    situation.daily = (0..300).map(|_| daily("XXXX", [old, old], Some(at("00:00:00") - TimeDelta::days(1)))).collect();
    situation.daily[7].attempted_at = Some(at("00:00:00") - TimeDelta::days(2));
    let first = plan(&situation);
    assert!(matches!(first.step, Some(CollectionStep::Daily { airport: 7, .. })), "{:?}", first.step);
    situation.daily[7].attempted_at = Some(situation.now);
    // 3,800 credits are 63 airports of 60.
    let turn = TimeDelta::days(1) / 63;
    let next = plan(&situation);
    assert_eq!((next.step, next.wake_at), (None, situation.now + turn));
    let flights = next.budget_report[1];
    assert_eq!((flights.lasts_until, flights.pace), (end_of_day(situation.now), None), "one by one they last the day");
    assert_eq!(next.next_at[1].2, situation.now + turn * 2);
    // A user who comes now does not wait for them.
    situation.daily[9].requested = true;
    assert!(matches!(plan(&situation).step, Some(CollectionStep::Daily { airport: 9, .. })));
}
