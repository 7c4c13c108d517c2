//! Whether the clock may be believed before anything is deleted by it.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use chrono::{DateTime, Utc};
use pg::clock::STEADY_TIME;
use runtime::{
    clock::Clock,
    clock_watch::{ClockWatch, Sample},
};

use crate::{
    core::clock::{ClockDoubt, ClockWitnesses, confirm_clock},
    store::Store,
};

/// Watches the clock.
pub struct ClockCheck {
    clock: Clock,
    begun: Instant,
    seen: Mutex<Seen>,
}

/// What was seen of it so far.
#[derive(Default)]
struct Seen {
    watch: ClockWatch,
    doubt: Option<ClockDoubt>,
}

impl ClockCheck {
    /// Watches `clock` from now on.
    pub fn begin(clock: Clock) -> Self {
        let check = Self { clock, begun: Instant::now(), seen: Mutex::default() };
        check.is_steady();
        check
    }

    /// What speaks against the clock that says `now`, if anything. A doubt is logged once.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn doubt(&self, now: DateTime<Utc>, store: &Store) -> sqlx::Result<Option<ClockDoubt>> {
        let is_steady = self.is_steady();
        let (database, newest_value) = store.clock_witnesses(now).await?;
        let database = (!self.clock.is_replay()).then_some(database);
        let doubt = confirm_clock(now, &ClockWitnesses { database, newest_value, is_steady }).err();
        let before = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut seen.doubt, doubt)
        };
        if let Some(doubt) = doubt.filter(|doubt| before != Some(*doubt)) {
            tracing::warn!("nothing old is removed for now: {doubt}");
        }
        Ok(doubt)
    }

    /// Whether the clock has run without a step for long enough to speak for itself. A replay's cannot be set, and runs
    /// at a speed of its own.
    fn is_steady(&self) -> bool {
        let asked = Instant::now();
        if self.clock.is_replay() {
            return asked.saturating_duration_since(self.begun) >= STEADY_TIME;
        }
        let since = self.clock.now().signed_duration_since(DateTime::UNIX_EPOCH);
        let answered = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.watch.observe(Sample { shown: since.as_seconds_f64(), asked, answered });
        seen.watch.steady_for(answered) >= STEADY_TIME
    }
}
