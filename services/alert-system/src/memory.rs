//! What the worker remembers of a partition while it owns it.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::core::{CachedState, Touched};

/// Interests of one partition that are remembered at most; 100,000 take about 10 MB. Beyond it the
/// partition is forgotten, which costs as much as a restart: their rows are read again.
const REMEMBERED_AT_MOST: usize = 250_000;

/// What the worker remembers of a partition while it owns it.
#[derive(Debug, Default)]
pub struct Memory {
    /// Interests that live; each has a row, which may be older.
    cached: HashMap<Uuid, CachedState>,
    /// Alerts of the batch at hand that are acknowledged while its rows are not written: should the
    /// database be away for long, they are not produced again with every attempt.
    acknowledged: HashSet<Uuid>,
}

impl Memory {
    /// Where an interest stands, if that is remembered.
    #[must_use]
    pub fn cached(&self, id: &Uuid) -> Option<&CachedState> {
        self.cached.get(id)
    }

    /// Whether this alert of the batch at hand is acknowledged already.
    #[must_use]
    pub fn is_acknowledged(&self, alert: &Uuid) -> bool {
        self.acknowledged.contains(alert)
    }

    /// This alert of the batch at hand is acknowledged.
    pub fn acknowledged(&mut self, alert: Uuid) {
        self.acknowledged.insert(alert);
    }

    /// The batch at hand is done with.
    ///
    /// Removed interests are forgotten: should a late message come, their row tells. Identities of
    /// the legacy format are not remembered either, since another partition may carry them too.
    pub fn settled(&mut self, touched: impl IntoIterator<Item = (Uuid, Touched)>) {
        self.acknowledged = HashSet::new();
        if self.cached.len() > REMEMBERED_AT_MOST {
            self.cached = HashMap::new();
        }
        for (id, Touched { cached, is_legacy, .. }) in touched {
            if is_legacy || cached.state.removed {
                self.cached.remove(&id);
            } else {
                self.cached.insert(id, cached);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::State;

    #[test]
    fn only_interests_that_live_are_remembered() {
        let mut memory = Memory::default();
        let living = Touched::default();
        let removed = Touched {
            cached: CachedState { state: State { removed: true, ..State::default() }, dirty: false },
            ..living
        };
        memory.settled([(Uuid::from_u128(1), living), (Uuid::from_u128(2), living)]);
        memory.settled([(Uuid::from_u128(2), removed), (Uuid::from_u128(3), Touched { is_legacy: true, ..living })]);
        assert!(memory.cached(&Uuid::from_u128(1)).is_some());
        assert!(memory.cached(&Uuid::from_u128(2)).is_none());
        assert!(memory.cached(&Uuid::from_u128(3)).is_none());
    }

    #[test]
    fn an_interest_takes_little_room() {
        assert!(size_of::<(Uuid, CachedState)>() <= 56, "{}", size_of::<(Uuid, CachedState)>());
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::default();
        let ids = |from: u128| (from..from + 100_000).map(|id| (Uuid::from_u128(id), Touched::default()));
        (0..10).for_each(|page| memory.settled(ids(page * 100_000)));
        assert!(memory.cached.len() <= REMEMBERED_AT_MOST + 100_000);
    }
}
