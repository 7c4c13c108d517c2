//! Whether the clock may be believed before anything is deleted by it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use runtime::clock::Clock;

use crate::{
    core::clock::{ClockDoubt, ClockWitnesses, confirm_clock},
    store::Store,
};

/// How long a clock must have run without a jump to speak for itself, in real time.
const STEADY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A clock that gained or lost more than this between two looks was set.
const JUMP: TimeDelta = TimeDelta::minutes(5);

/// Watches the clock.
pub struct ClockCheck {
    clock: Clock,
    seen: Mutex<Seen>,
}

/// What was seen of it so far.
struct Seen {
    steady_since: Instant,
    looked: (DateTime<Utc>, Instant),
    doubt: Option<ClockDoubt>,
}

impl ClockCheck {
    /// Watches `clock` from now on.
    pub fn begin(clock: Clock) -> Self {
        let begun = Instant::now();
        Self { clock, seen: Mutex::new(Seen { steady_since: begun, looked: (clock.now(), begun), doubt: None }) }
    }

    /// Whether its witnesses confirm the clock that says `now`. A doubt is logged once.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn confirms(&self, now: DateTime<Utc>, store: &Store) -> sqlx::Result<bool> {
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
        Ok(doubt.is_none())
    }

    fn is_steady(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = (self.clock.now(), Instant::now());
        let (time, at) = std::mem::replace(&mut seen.looked, looked);
        let passed = TimeDelta::from_std(looked.1 - at).unwrap_or(TimeDelta::MAX);
        if !self.clock.is_replay() && (looked.0 - time - passed).abs() > JUMP {
            seen.steady_since = looked.1;
        }
        seen.steady_since.elapsed() >= STEADY_AFTER
    }
}
