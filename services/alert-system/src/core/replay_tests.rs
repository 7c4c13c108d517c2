//! The argument of [`keep`](super::keep), played out: a partition's log, a worker that takes it in
//! batches and dies at every point between two effects, redeliveries in any order, and a former
//! owner whose rows arrive late. The alerts must be those of a run in which nothing went wrong.

use std::collections::{HashMap, HashSet};

use contracts::AlertKind;
use proptest::prelude::*;
use uuid::Uuid;

use super::{Kept, Observation, Position, State, Step, Thresholds, settle};

/// One record: which interest, what, and the id that its alert would have.
#[derive(Clone, Copy, Debug)]
struct Logged {
    interest: u8,
    step: Step,
    cause: usize,
}

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

/// What one interest raised: the message and the kind.
type Alert = (usize, AlertKind);

#[derive(Default)]
struct World {
    rows: HashMap<u8, State>,
    memory: HashMap<u8, Kept>,
    /// Alerts in the order in which they were first acknowledged, as a ledger would keep them.
    told: Vec<Alert>,
    seen: HashSet<usize>,
    lingering: Vec<HashMap<u8, State>>,
}

impl World {
    /// Decides about a batch on copies, as the handler does.
    fn decide(&self, batch: &[Logged]) -> (HashMap<u8, Kept>, HashMap<u8, State>, Vec<Alert>) {
        let mut copies: HashMap<u8, Kept> = HashMap::new();
        let mut written = HashSet::new();
        let mut alerts = Vec::new();
        for logged in batch {
            let kept = copies.entry(logged.interest).or_insert_with(|| self.known(logged.interest));
            let settled = settle(Uuid::from_u128(logged.interest.into()), kept, &logged.step);
            *kept = kept.after(&settled);
            if settled.write {
                written.insert(logged.interest);
            }
            alerts.extend(settled.decision.crossing.map(|crossing| (logged.cause, crossing.kind)));
        }
        let rows = written.iter().map(|interest| (*interest, copies[interest].state)).collect();
        copies.iter_mut().filter(|(interest, _)| written.contains(interest)).for_each(|(_, kept)| kept.behind = false);
        (copies, rows, alerts)
    }

    fn known(&self, interest: u8) -> Kept {
        let row = || Kept { state: self.rows.get(&interest).copied().unwrap_or_default(), behind: false };
        self.memory.get(&interest).copied().unwrap_or_else(row)
    }

    fn tell(&mut self, alerts: Vec<Alert>) {
        self.told.extend(alerts.into_iter().filter(|(cause, _)| self.seen.insert(*cause)));
    }

    /// The guard of the store's statement.
    fn write(&mut self, rows: HashMap<u8, State>) {
        for (interest, row) in rows {
            let stored = self.rows.entry(interest).or_default();
            if !stored.removed && (row.removed || stored.last < row.last) {
                *stored = row;
            }
        }
    }

    fn settle(&mut self, batch: &[Logged]) {
        let (copies, rows, alerts) = self.decide(batch);
        self.tell(alerts);
        self.write(rows);
        self.memory.extend(copies.into_iter().filter(|(_, kept)| !kept.state.removed));
        self.memory.retain(|interest, _| !self.rows.get(interest).is_some_and(|row| row.removed));
    }

    /// Settles a batch around a mishap; answers whether its offset was stored.
    fn live_through(&mut self, batch: &[Logged], mishap: Mishap) -> bool {
        let (_, rows, alerts) = self.decide(batch);
        match mishap {
            Mishap::DiesFirst => {}
            Mishap::DiesWithAlertsOut => self.tell(alerts),
            Mishap::DiesWithRowsWritten => {
                self.tell(alerts);
                self.write(rows);
            }
            Mishap::LingersAsFormerOwner => {
                self.tell(alerts);
                self.lingering.push(rows);
            }
            Mishap::DiesAfterwards => {
                self.settle(batch);
                self.memory.clear();
                return true;
            }
            Mishap::None | Mishap::Redelivered { .. } | Mishap::SetBack { .. } => {
                self.settle(batch);
                return true;
            }
        }
        self.memory.clear();
        false
    }
}

/// Runs the log; `batches` gives sizes and mishaps, and what is left of the log runs without any.
fn run(log: &[Logged], batches: &[(usize, Mishap)], covered: impl Fn(&World, usize) -> bool) -> World {
    let mut world = World::default();
    let mut next = 0;
    for &(size, mishap) in batches {
        let end = (next + size).min(log.len());
        let restarts = !matches!(mishap, Mishap::None | Mishap::Redelivered { restart: false, .. });
        let mishap = if restarts && !(covered(&world, next) && covered(&world, end)) { Mishap::None } else { mishap };
        if world.live_through(&log[next..end], mishap) {
            next = end;
        }
        match mishap {
            Mishap::Redelivered { seed, restart } => {
                if restart {
                    world.memory.clear();
                }
                let mut again = log[..next].to_vec();
                shuffle(&mut again, seed);
                again.chunks(3).for_each(|batch| world.settle(batch));
            }
            Mishap::SetBack { part } => {
                world.memory.clear();
                next = next * usize::from(part) / 255;
            }
            _ => {}
        }
        if world.lingering.len() > 1 {
            let rows = world.lingering.remove(0);
            world.write(rows);
        }
    }
    log[next..].chunks(4).for_each(|batch| world.settle(batch));
    world
}

fn shuffle(records: &mut [Logged], mut seed: u64) {
    for index in (1..records.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        records.swap(index, usize::try_from(seed >> 33).unwrap() % (index + 1));
    }
}

/// What one interest goes through, in order: `None` in `value` is unknown.
#[derive(Clone, Copy, Debug)]
enum Life {
    Reading { interest: u8, value: Option<i64> },
    Changed { interest: u8, high: i64 },
    Removed { interest: u8 },
}

fn life() -> impl Strategy<Value = Life> {
    let interest = 0u8..3;
    prop_oneof![
        8 => (interest.clone(), proptest::option::weighted(0.85, 0i64..12))
            .prop_map(|(interest, value)| Life::Reading { interest, value }),
        2 => (interest.clone(), 4i64..10).prop_map(|(interest, high)| Life::Changed { interest, high }),
        1 => interest.prop_map(|interest| Life::Removed { interest }),
    ]
}

/// The records of such lives, each interest's in order. Readings of a removed interest that were on
/// their way still come.
fn logged(lives: &[Life]) -> Vec<Logged> {
    let mut positions = [Position { major: 1, minor: 0 }; 3];
    let mut highs = [8i64; 3];
    let mut log: Vec<Logged> = Vec::new();
    for life in lives {
        let (interest, step) = match *life {
            Life::Changed { interest, high } => {
                positions[usize::from(interest)].major += 1;
                highs[usize::from(interest)] = high;
                continue;
            }
            Life::Removed { interest } => (interest, Step::Removed),
            Life::Reading { interest, value } => {
                let position = &mut positions[usize::from(interest)];
                position.minor += 1;
                let thresholds = Thresholds { high: Some(highs[usize::from(interest)]), low: Some(3) };
                (interest, Step::Observed(Observation { position: *position, value, thresholds }))
            }
        };
        log.push(Logged { interest, step, cause: log.len() });
    }
    log
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

fn by_interest(log: &[Logged], world: &World) -> HashMap<u8, Vec<Alert>> {
    let mut told: HashMap<u8, Vec<_>> = HashMap::new();
    world.told.iter().for_each(|alert| told.entry(log[alert.0].interest).or_default().push(*alert));
    told
}

/// Whether a restart at `end` is part of the promise: no record after it is the first arrival
/// of a message that is older than one settled already but newer than the row.
fn promised(log: &[Logged], world: &World, end: usize) -> bool {
    log[end..].iter().all(|late| {
        let Step::Observed(observed) = late.step else { return true };
        let is_older = |settled: &Logged| match settled.step {
            Step::Observed(other) => settled.interest == late.interest && other.position > observed.position,
            Step::Removed => false,
        };
        let row = world.rows.get(&late.interest).copied().unwrap_or_default();
        row.removed || row.last >= Some(observed.position) || !log[..end].iter().any(is_older)
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
        prop_assert_eq!(by_interest(&log, &rough), by_interest(&log, &clean));
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
        log.iter_mut().enumerate().for_each(|(index, logged)| logged.cause = index);
        let clean = run(&log, &[], |_, _| true);
        let rough = run(&log, &batches, |world, end| promised(&log, world, end));
        prop_assert_eq!(by_interest(&log, &rough), by_interest(&log, &clean));
    }
}
