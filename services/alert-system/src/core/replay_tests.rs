//! The argument of [`write_policy`](super::write_policy), played out by [`plan`] and [`Memory`] themselves: a
//! partition's log, a worker that takes it in batches and dies at every point between two effects, redeliveries in any
//! order, and a former owner whose rows arrive late. Only database and ledger are simulated. The alerts must be those
//! of a run in which nothing went wrong.

use std::collections::{HashMap, HashSet};

use events::{AlertKind, FlightCount, ReadingEvent, ReadingRef, reading_event_id};
use proptest::prelude::*;
use uuid::Uuid;

use super::{BatchPlan, CachedState, Message, Reading, Rejection, Sequence, State, in_rounds, plan};
use crate::memory::Memory;

/// A record of the log, as it was read.
type Logged = Result<Message<'static>, Rejection>;

/// What goes wrong around one batch.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    None,
    /// Dies before anything was produced.
    DiesFirst,
    /// Dies with the alerts acknowledged and the rows not written.
    DiesWithAlertsOut,
    /// Dies with the rows written and the offset not stored.
    DiesWithRowsWritten,
    /// Dies after everything, so that memory alone is lost.
    DiesAfterwards,
    /// Loses the partition with its alerts out; its rows arrive when others have gone on.
    LingersAsFormerOwner,
    /// Everything settled so far is delivered once more in this order, after a restart or not.
    Redelivered {
        seed: u64,
        restart: bool,
    },
    /// The group's offset is set back.
    SetBack {
        part: u8,
    },
}

/// An alert as a ledger keeps it: its id, the interest, the kind.
type Alert = (Uuid, Uuid, AlertKind);

#[derive(Default)]
struct Simulation {
    rows: HashMap<Uuid, State>,
    memory: Memory,
    /// Alerts in the order in which they were first acknowledged.
    published: Vec<Alert>,
    seen: HashSet<Uuid>,
    lingering: Vec<Vec<(Uuid, State)>>,
}

impl Simulation {
    /// The plan of a batch, by what memory holds and else by the rows.
    fn plan<'a>(&self, batch: &'a [Logged]) -> BatchPlan<'a> {
        let cached = |id: &Uuid| {
            let row = || self.rows.get(id).map(|state| CachedState { state: *state, dirty: false });
            self.memory.cached(id).copied().or_else(row)
        };
        let ids = batch.iter().flatten().map(Message::id);
        let known = ids.filter_map(|id| Some((id, cached(&id)?))).collect();
        plan(batch, &known)
    }

    fn publish(&mut self, plan: &BatchPlan<'_>) {
        for alert in in_rounds(plan.alerts.iter().collect()).concat() {
            if self.seen.insert(alert.event.event_id) {
                self.published.push((alert.event.event_id, alert.about, alert.kind));
            }
        }
    }

    /// The guard of the store's statement.
    fn write(&mut self, rows: Vec<(Uuid, State)>) {
        for (interest, row) in rows {
            let stored = self.rows.entry(interest).or_default();
            if !stored.removed && (row.removed || stored.last < row.last) {
                *stored = row;
            }
        }
    }

    fn settle(&mut self, batch: &[Logged]) {
        let plan = self.plan(batch);
        self.publish(&plan);
        self.write(plan.rows(false));
        self.memory.settled(plan.touched);
    }

    /// Settles a batch around a mishap; answers whether its offset was stored.
    fn live_through(&mut self, batch: &[Logged], mishap: Mishap) -> bool {
        let plan = self.plan(batch);
        match mishap {
            Mishap::DiesFirst => {}
            Mishap::DiesWithAlertsOut => self.publish(&plan),
            Mishap::DiesWithRowsWritten => {
                self.publish(&plan);
                self.write(plan.rows(false));
            }
            Mishap::LingersAsFormerOwner => {
                self.publish(&plan);
                self.lingering.push(plan.rows(false));
            }
            Mishap::DiesAfterwards => {
                self.settle(batch);
                self.memory = Memory::default();
                return true;
            }
            Mishap::None | Mishap::Redelivered { .. } | Mishap::SetBack { .. } => {
                self.settle(batch);
                return true;
            }
        }
        self.memory = Memory::default();
        false
    }
}

/// Runs the log; `batches` gives sizes and mishaps, and what is left of the log runs without any.
fn run(log: &[Logged], batches: &[(usize, Mishap)], covered: impl Fn(&Simulation, usize) -> bool) -> Simulation {
    let mut simulation = Simulation::default();
    let mut next = 0;
    for &(size, mishap) in batches {
        let end = (next + size).min(log.len());
        let restarts = !matches!(mishap, Mishap::None | Mishap::Redelivered { restart: false, .. });
        let mishap =
            if restarts && !(covered(&simulation, next) && covered(&simulation, end)) { Mishap::None } else { mishap };
        if simulation.live_through(&log[next..end], mishap) {
            next = end;
        }
        match mishap {
            Mishap::Redelivered { seed, restart } => {
                if restart {
                    simulation.memory = Memory::default();
                }
                let mut again = log[..next].to_vec();
                shuffle(&mut again, seed);
                again.chunks(3).for_each(|batch| simulation.settle(batch));
            }
            Mishap::SetBack { part } => {
                simulation.memory = Memory::default();
                next = next * usize::from(part) / 255;
            }
            _ => {}
        }
        if simulation.lingering.len() > 1 {
            let rows = simulation.lingering.remove(0);
            simulation.write(rows);
        }
    }
    log[next..].chunks(4).for_each(|batch| simulation.settle(batch));
    simulation
}

fn shuffle(records: &mut [Logged], mut seed: u64) {
    for index in (1..records.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        records.swap(index, usize::try_from(seed >> 33).unwrap() % (index + 1));
    }
}

/// What one interest goes through, in order: `None` in `flight_count` is unknown.
#[derive(Clone, Copy, Debug)]
enum Life {
    Reading { interest: u8, flight_count: Option<FlightCount> },
    Changed { interest: u8, high: FlightCount },
    Removed { interest: u8 },
}

fn life() -> impl Strategy<Value = Life> {
    let interest = 0u8..3;
    let flights = |range: std::ops::Range<u32>| range.prop_map(FlightCount::new);
    prop_oneof![
        8 => (interest.clone(), proptest::option::weighted(0.85, flights(0..12)))
            .prop_map(|(interest, flight_count)| Life::Reading { interest, flight_count }),
        2 => (interest.clone(), flights(4..10)).prop_map(|(interest, high)| Life::Changed { interest, high }),
        1 => interest.prop_map(|interest| Life::Removed { interest }),
    ]
}

/// The records of such lives, each interest's in order. Readings of a removed interest that were on
/// their way still come.
fn logged(lives: &[Life]) -> Vec<Logged> {
    let mut sequences = [Sequence { major: 1, minor: 0 }; 3];
    let mut highs = [FlightCount::new(8); 3];
    let mut log: Vec<Logged> = Vec::new();
    for life in lives {
        match *life {
            Life::Changed { interest, high } => {
                sequences[usize::from(interest)].major += 1;
                highs[usize::from(interest)] = high;
            }
            Life::Removed { interest } => log.push(Ok(Message::Removed(interest_id(interest)))),
            Life::Reading { interest, flight_count } => {
                let sequence = &mut sequences[usize::from(interest)];
                sequence.minor += 1;
                let event = reading(interest_id(interest), *sequence, flight_count, highs[usize::from(interest)]);
                log.push(Ok(Message::Reading(Reading::Full(event))));
            }
        }
    }
    log
}

fn interest_id(interest: u8) -> Uuid {
    Uuid::from_u128(interest.into())
}

fn reading(
    interest_id: Uuid,
    sequence: Sequence,
    flight_count: Option<FlightCount>,
    high: FlightCount,
) -> ReadingEvent<'static> {
    let id = Uuid::new_v5(&interest_id, &sequence.minor.to_be_bytes());
    let at = "2026-11-20T10:00:00Z".parse().expect("a time");
    ReadingEvent {
        event_id: reading_event_id(interest_id, sequence.major, id),
        interest_id,
        interest_version: sequence.major,
        user_id: Uuid::nil(),
        user_email: "ada@example.org".into(),
        airport_code: "LFPG".into(),
        metric: "live".into(),
        flight_count,
        high_value: Some(high),
        low_value: Some(FlightCount::new(3)),
        reading: ReadingRef {
            id,
            seq: sequence.minor,
            window_begin: at,
            window_end: at,
            observed_at: at,
            source: "OpenSky Network".into(),
        },
    }
}

/// What orders a message among those of its interest; a removal has no such place.
fn sequence(logged: &Logged) -> Option<(Uuid, Sequence)> {
    match logged {
        Ok(Message::Reading(reading)) => Some((reading.id(), reading.observation().sequence)),
        _ => None,
    }
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        4 => Just(Mishap::None),
        1 => Just(Mishap::DiesFirst),
        1 => Just(Mishap::DiesWithAlertsOut),
        1 => Just(Mishap::DiesWithRowsWritten),
        1 => Just(Mishap::DiesAfterwards),
        1 => Just(Mishap::LingersAsFormerOwner),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(seed, restart)| Mishap::Redelivered { seed, restart }),
        1 => any::<u8>().prop_map(|part| Mishap::SetBack { part }),
    ]
}

fn by_interest(simulation: &Simulation) -> HashMap<Uuid, Vec<Alert>> {
    let mut published: HashMap<Uuid, Vec<_>> = HashMap::new();
    simulation.published.iter().for_each(|alert| published.entry(alert.1).or_default().push(*alert));
    published
}

/// Whether a restart at `end` is part of the promise: no record after it is the first arrival
/// of a message that is older than one settled already but newer than the row.
fn promised(log: &[Logged], simulation: &Simulation, end: usize) -> bool {
    log[end..].iter().filter_map(sequence).all(|(interest, late)| {
        let is_older = |settled: &Logged| sequence(settled).is_some_and(|(of, at)| of == interest && at > late);
        let row = simulation.rows.get(&interest).copied().unwrap_or_default();
        row.removed || row.last >= Some(late) || !log[..end].iter().any(is_older)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_wrong_the_alerts_are_those_of_the_clean_run(
        lives in proptest::collection::vec(life(), 1..60),
        batches in proptest::collection::vec((1usize..9, mishap()), 0..24),
    ) {
        let log = logged(&lives);
        let clean = run(&log, &[], |_, _| true);
        let rough = run(&log, &batches, |_, _| true);
        prop_assert_eq!(by_interest(&rough), by_interest(&clean));
    }

    #[test]
    fn messages_that_overtook_each_other_are_settled_for_good(
        lives in proptest::collection::vec(life(), 1..60),
        batches in proptest::collection::vec((1usize..9, mishap()), 0..24),
        swaps in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
    ) {
        let mut log = logged(&lives);
        prop_assume!(!log.is_empty());
        for (one, other) in &swaps {
            let (one, other) = (one.index(log.len()), other.index(log.len()));
            log.swap(one, other);
        }
        let clean = run(&log, &[], |_, _| true);
        let rough = run(&log, &batches, |simulation, end| promised(&log, simulation, end));
        prop_assert_eq!(by_interest(&rough), by_interest(&clean));
    }
}
