//! What is planned with when a clock that was ahead has stored times.

use chrono::{DateTime, Utc};

use super::{DailyNeed, LiveNeed, Situation};
use crate::core::{clock::is_ahead, credits::start_of_day};

impl Situation {
    /// The same without what a clock that was ahead has stored: it is unknown when that was. Taken as it is, it
    /// would keep everything from being asked until the time comes round, and taken for now as well.
    #[must_use]
    pub fn without_times_ahead(mut self) -> Self {
        let now = self.now;
        let known = |stored: Option<DateTime<Utc>>| stored.filter(|at| !is_ahead(*at, now));
        self.cycle_begun_at = known(self.cycle_begun_at);
        self.probed_at = known(self.probed_at);
        self.probe_deferred_at = known(self.probe_deferred_at);
        // That a day is published stays true whatever the clock; it has been so since today began, at most.
        let today = start_of_day(now);
        let since = |stored: Option<DateTime<Utc>>| stored.map(|at| if is_ahead(at, now) { today } else { at });
        self.yesterday_published_at = since(self.yesterday_published_at);
        self.before_published_at = since(self.before_published_at);
        for LiveNeed { attempted_at, .. } in &mut self.live {
            *attempted_at = known(*attempted_at);
        }
        for DailyNeed { attempted_at, probed, .. } in &mut self.daily {
            *attempted_at = known(*attempted_at);
            probed.at = known(probed.at);
        }
        self
    }
}
