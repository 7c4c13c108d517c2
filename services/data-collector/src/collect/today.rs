//! What the leader remembers, and may forget.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use chrono::{DateTime, NaiveDate, Utc};

use super::Collector;
use crate::core::{day::Direction, plan::Probed};

/// What is remembered until the day ends, and may be forgotten by a restart.
#[derive(Clone, Default)]
pub struct Today {
    pub(super) day: NaiveDate,
    /// Airports that share no box, since the source refused one that they shared.
    pub(super) alone: BTreeSet<String>,
    /// When a look for yesterday's flights was last due, and nothing was asked.
    pub(super) probe_deferred_at: Option<DateTime<Utc>>,
    /// Airports that found yesterday unpublished.
    pub(super) probed: BTreeMap<String, Probed>,
    /// Answers that said "next to nothing" where there was much, and were not believed the first time.
    pub(super) doubted: BTreeSet<Doubted>,
}

/// An answer with next to nothing in it, which is believed when it comes a second time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubted {
    /// Next to no aircraft around this airport.
    Count(String),
    /// A day of this airport with next to no flights.
    Day(String, Direction, NaiveDate),
}

impl Collector {
    /// What is remembered on `now`'s day.
    pub(super) fn today(&self, now: DateTime<Utc>) -> Today {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day != now.date_naive() {
            *today = Today { day: now.date_naive(), ..Today::default() };
        }
        today.clone()
    }

    /// Changes what is remembered of `now`'s day, unless there is another one already.
    fn remember(&self, now: DateTime<Utc>, change: impl FnOnce(&mut Today)) {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day == now.date_naive() {
            change(&mut today);
        }
    }

    pub(super) fn keep_alone(&self, airport: &str, now: DateTime<Utc>) {
        self.remember(now, |today| {
            today.alone.insert(airport.to_owned());
        });
    }

    pub(super) fn defer_probe(&self, now: DateTime<Utc>) {
        self.remember(now, |today| today.probe_deferred_at = Some(now));
    }

    pub(super) fn probed_unpublished(&self, airport: &str, now: DateTime<Utc>) {
        self.remember(now, |today| {
            let probed = today.probed.entry(airport.to_owned()).or_default();
            *probed = Probed { at: Some(now), times: probed.times.saturating_add(1) };
        });
    }

    /// Whether an answer that says "next to nothing" is to be doubted: the first time, and then no more.
    pub(super) fn is_first_doubt(&self, doubted: &Doubted) -> bool {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        today.doubted.insert(doubted.clone())
    }

    /// An answer had enough in it again.
    pub(super) fn forget_doubt(&self, doubted: &Doubted) {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        today.doubted.remove(doubted);
    }
}
