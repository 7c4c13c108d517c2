//! Which decisions are written to the database, and why the others need not be.
//!
//! Memory holds the state of an interest as of its newest message; its row may be stale, which makes
//! the cached state **dirty**: a message that changes nothing but the sequence is not written, for
//! at 100,000 interests that would be the whole load of the database. So after a restart, or a
//! rebalance, the sequence in the row, `W`, may be smaller than the sequence that had been settled,
//! `M`. What follows?
//!
//! 1. *The level in the row is right.* Every message that changes level, version or the state of the
//!    data is written, with its sequence, before its offset is stored. Hence at any time all
//!    messages settled between `W` and `M` left these as they are in the row.
//! 2. *The replay from the stored offset* brings the messages from `W` on in the same order, and
//!    those before it are stale. By (1), and because [`decide`] follows from row and message alone,
//!    it raises the same alerts, whose ids follow from their causes.
//! 3. *A settled message that comes once more, at any later time and in any order,* is silent. If it
//!    is not after `W`, it is stale. If it is, it was either decided between `W` and `M` and changed
//!    nothing; the new level depends on the message alone, so it changes nothing again. Or it was
//!    stale when it came first, because something newer had been settled that no row shows: such a
//!    message would be taken for new after a restart, therefore its arrival has the row written
//!    up to `M` (see [`settle`]), and then it is not after `W`.
//! 4. *Two owners at once*: a worker that lost its partition and does not know it yet works on the
//!    same messages in the same order. Its rows are refused when they are not newer than the stored
//!    ones, and by (1) they agree with them when they are.
//! 5. *A removal* is final, so its repetition and all that comes late change nothing.
//!
//! What remains is a message that arrives for the first time after a newer one of its interest *and*
//! with a restart in between. Fan-out sends an interest's readings in order, so this takes a dead
//! letter that is replayed much later. [`CHECKPOINT_EVERY`] bounds it: a message more than so many
//! readings behind is stale in any case.
//!
//! The test beside this module plays all of this out: any batches, crashes, redeliveries and late
//! owners raise the alerts of the clean run and no others.

use uuid::Uuid;

use super::decide::{Decision, InterestEvent, Outcome, State, decide};

/// A row is written at least once in this many readings of its interest, so that it is never further
/// behind. Which of the readings it is depends on the interest's id, so that the rows of one airport
/// are not all written at once.
pub const CHECKPOINT_EVERY: i64 = 64;

/// What memory holds of an interest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachedState {
    /// Where it stands.
    pub state: State,
    /// Whether its row shows an older sequence.
    pub dirty: bool,
}

/// What follows from a message, and for the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What follows.
    pub decision: Decision,
    /// Whether `decision.next` must be in the row before the offset is stored.
    pub write: bool,
}

/// Decides about `event`, and whether the row of `id` has to be written.
#[must_use]
pub fn settle(id: Uuid, cached: &CachedState, event: &InterestEvent) -> Settled {
    let decision = decide(&cached.state, event);
    let write = match decision.outcome {
        Outcome::Stale => cached.dirty,
        _ => differs_beyond_seq(&cached.state, &decision.next) || is_checkpoint(id, &decision.next),
    };
    Settled { decision, write }
}

impl CachedState {
    /// What memory holds once `settled` is done.
    #[must_use]
    pub fn after(&self, settled: &Settled) -> Self {
        let moved = settled.decision.next != self.state;
        Self { state: settled.decision.next, dirty: !settled.write && (self.dirty || moved) }
    }
}

fn differs_beyond_seq(before: &State, after: &State) -> bool {
    let version = |state: &State| state.last.map(|last| last.major);
    (before.level, before.data, before.removed, version(before))
        != (after.level, after.data, after.removed, version(after))
}

fn is_checkpoint(id: Uuid, state: &State) -> bool {
    let turn = i64::from(id.as_bytes()[15]) % CHECKPOINT_EVERY;
    !state.removed && state.last.is_some_and(|last| last.minor % CHECKPOINT_EVERY == turn)
}

#[cfg(test)]
mod tests {
    use events::FlightCount;

    use super::*;
    use crate::core::{Observation, Sequence, Thresholds};

    fn reading(version: i64, seq: i64, flights: Option<u32>) -> InterestEvent {
        let sequence = Sequence { major: version, minor: seq };
        let thresholds = Thresholds { high: Some(FlightCount::new(10)), low: None };
        InterestEvent::Observed(Observation { sequence, flight_count: flights.map(FlightCount::new), thresholds })
    }

    fn run(events: &[InterestEvent]) -> (CachedState, Vec<bool>) {
        let mut cached = CachedState::default();
        let mut written = Vec::new();
        for event in events {
            let settled = settle(Uuid::from_u128(63), &cached, event);
            cached = cached.after(&settled);
            written.push(settled.write);
        }
        (cached, written)
    }

    #[test]
    fn a_quiet_message_is_not_written() {
        let (cached, written) = run(&[reading(1, 1, Some(5)), reading(1, 2, Some(6)), reading(1, 3, Some(11))]);
        assert_eq!(written, [true, false, true]);
        assert!(!cached.dirty);
    }

    #[test]
    fn a_change_of_version_or_data_is_written() {
        let (_, written) = run(&[
            reading(1, 1, Some(5)),
            reading(1, 2, None),
            reading(1, 3, None),
            reading(1, 4, Some(5)),
            reading(2, 4, Some(5)),
        ]);
        assert_eq!(written, [true, true, false, true, true]);
    }

    #[test]
    fn a_stale_message_has_a_row_that_is_behind_written() {
        let (cached, written) =
            run(&[reading(1, 1, Some(5)), reading(1, 3, Some(5)), reading(1, 2, Some(11)), reading(1, 2, Some(11))]);
        assert_eq!(written, [true, false, true, false]);
        assert_eq!(cached.state.last, Some(Sequence { major: 1, minor: 3 }));
    }

    #[test]
    fn a_row_is_never_further_behind_than_a_checkpoint() {
        let events: Vec<_> = (1..=200).map(|seq| reading(1, seq, Some(5))).collect();
        let (_, written) = run(&events);
        let seqs: Vec<_> = (1..=200).zip(written).filter(|(_, written)| *written).map(|(seq, _)| seq).collect();
        assert_eq!(seqs, [1, 63, 127, 191]);
    }
}
