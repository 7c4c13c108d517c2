//! Lines about what goes on and on.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often something that goes on is worth a line.
const EVERY: Duration = Duration::from_secs(60);

/// Says which of many like events are worth a line in the log: the first of its kind at once, then one a
/// minute that tells how many came since, and one when it is over.
///
/// The caller writes the line, so that it has the caller's target and fields. `K` is what makes two events
/// alike; it comes from a closed set, since each one is remembered until [`LogLimit::over`].
#[derive(Debug)]
pub struct LogLimit<K> {
    every: Duration,
    kinds: Mutex<BTreeMap<K, Kind>>,
}

#[derive(Debug)]
struct Kind {
    logged_at: Instant,
    /// How many came since the last line.
    unlogged: u64,
    /// How many came in all.
    total: u64,
}

impl<K: Ord> Default for LogLimit<K> {
    fn default() -> Self {
        Self { every: EVERY, kinds: Mutex::default() }
    }
}

impl<K: Ord> LogLimit<K> {
    /// An event of this kind: how many like it had no line of their own since the last line, when this one
    /// deserves a line; `None` when it does not.
    #[must_use]
    pub fn line(&self, kind: K) -> Option<u64> {
        self.line_at(kind, Instant::now())
    }

    fn line_at(&self, kind: K, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = kinds.get_mut(&kind) else {
            kinds.insert(kind, Kind { logged_at: now, unlogged: 0, total: 1 });
            return Some(0);
        };
        known.total = known.total.saturating_add(1);
        if now.saturating_duration_since(known.logged_at) < self.every {
            known.unlogged = known.unlogged.saturating_add(1);
            return None;
        }
        known.logged_at = now;
        Some(std::mem::take(&mut known.unlogged))
    }

    /// It is over, whatever its kind: how many events there were since it began, or `None` when there were
    /// none. The next one is news again.
    pub fn over(&self) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let total = kinds.values().map(|kind| kind.total).sum();
        kinds.clear();
        (total > 0).then_some(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_then_one_a_minute_with_a_count_then_the_end() {
        let limit = LogLimit::default();
        let begun = Instant::now();
        let logged: Vec<(u64, u64)> = (0..150)
            .filter_map(|second| {
                let repeats = limit.line_at("breaker_open", begun + Duration::from_secs(second))?;
                Some((second, repeats))
            })
            .collect();
        assert_eq!(logged, [(0, 0), (60, 59), (120, 59)]);
        assert_eq!(limit.over(), Some(150));
        assert_eq!(limit.over(), None, "said once");
        assert_eq!(limit.line_at("breaker_open", begun), Some(0), "news again");
    }

    #[test]
    fn another_kind_is_news_at_once_and_two_that_alternate_are_not_news_each_time() {
        let limit = LogLimit::default();
        let begun = Instant::now();
        let lines = (0..60).filter(|second| {
            let kind = if second % 2 == 0 { "503" } else { "timeout" };
            limit.line_at(kind, begun + Duration::from_secs(*second)).is_some()
        });
        assert_eq!(lines.count(), 2);
    }
}
