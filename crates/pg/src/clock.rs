//! Whether the database's clock may be trusted to remove what is old.
//!
//! A clock that is hours or years ahead makes everything old at once, and what is removed by it never comes back. So a
//! removal waits until this process has watched the clock for some time without a step, [`STEADY_TIME`] unless its owner
//! asks for less. What was written before that is then as old at least, whatever the clock showed when it was written;
//! and what was written since has its true age. A process that never runs for so long removes nothing; another replica,
//! or a later process that does, removes it all.
//!
//! Between two looks a clock may step back and forth again unseen. Nothing is removed then, since a removal looks
//! first; but what is written meanwhile has a wrong time. Looks that are near each other make that unlikely.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use runtime::clock_watch::{ClockWatch, Sample};

use crate::{Pool, Transaction, begin};

/// How long the clock must have been watched without a step.
pub const STEADY_TIME: Duration = Duration::from_secs(24 * 3600);

/// The database's clock, watched for one kind of removal. Clones share what was seen.
#[derive(Clone, Debug)]
pub struct SteadyClock {
    watch: Arc<Mutex<ClockWatch>>,
    steady_time: Duration,
}

impl Default for SteadyClock {
    fn default() -> Self {
        Self::new(STEADY_TIME)
    }
}

impl SteadyClock {
    /// A clock that is trusted once it was watched for `steady_time` without a step.
    #[must_use]
    pub fn new(steady_time: Duration) -> Self {
        Self { watch: Arc::default(), steady_time }
    }

    /// Looks at the clock and begins a transaction whose `now()` may be trusted; `None` when it may not be.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin(&self, pool: &Pool) -> sqlx::Result<Option<Transaction>> {
        let asked = Instant::now();
        let mut transaction = begin(pool).await?;
        // The same `now()` as in the rest of the transaction: no step can come between the look and the removal.
        let shown = sqlx::query_scalar("SELECT extract(epoch FROM now())::float8").fetch_one(&mut *transaction).await?;
        if self.trusts(Sample { shown, asked, answered: Instant::now() }) {
            return Ok(Some(transaction));
        }
        transaction.rollback().await?;
        Ok(None)
    }

    fn trusts(&self, sample: Sample) -> bool {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seconds) = watch.observe(sample) {
            tracing::debug!("the database's clock was set by {seconds:.0} s: nothing old is removed for now");
        }
        watch.steady_for(sample.answered) >= self.steady_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u32 = 3600;

    /// Whether a clock that showed this so many seconds after the first look is trusted.
    fn trusted(looks: &[(u32, f64)]) -> Vec<bool> {
        let (clock, begun) = (SteadyClock::default(), Instant::now());
        let look = |(after, shown): &(u32, f64)| {
            let at = begun + Duration::from_secs(u64::from(*after));
            clock.trusts(Sample { shown: *shown, asked: at, answered: at })
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_clock_is_trusted_after_a_day_without_a_step() {
        let looks: Vec<_> = (0..=48).map(|hour| (hour * HOUR, f64::from(hour * HOUR))).collect();
        let trusted = trusted(&looks);
        assert_eq!(trusted.iter().position(|trusted| *trusted), Some(24));
        assert!(trusted[24..].iter().all(|trusted| *trusted));
    }

    #[test]
    fn a_clock_that_is_ahead_for_hours_is_not_trusted_meanwhile_nor_for_a_day_afterwards() {
        for step in [f64::from(25 * HOUR), 3e8, -3e8] {
            let is_set = |hour: u32| if (30..40).contains(&hour) { step } else { 0.0 };
            let looks: Vec<_> = (0..=70).map(|hour| (hour * HOUR, f64::from(hour * HOUR) + is_set(hour))).collect();
            let hours: Vec<_> = (0..=70).zip(trusted(&looks)).filter_map(|(hour, of)| of.then_some(hour)).collect();
            assert_eq!(hours, [24, 25, 26, 27, 28, 29, 64, 65, 66, 67, 68, 69, 70], "{step}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_is_never_trusted() {
        let looks: Vec<_> = (0..=48).map(|hour| (hour * HOUR, 0.0)).collect();
        assert!(trusted(&looks).iter().all(|trusted| !trusted));
    }
}
