//! How long to wait before something is tried again.

use std::time::Duration;

/// Waits that double from failure to failure, up to a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

/// Waits before a caller tries another replica behind the same address. The first six together take 2.35 s, longer than
/// a cluster takes to notice that a replica has died (a second or two), until when half of the attempts still reach it
/// where there are two.
pub const DEAD_REPLICA: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(800));

impl Backoff {
    /// Waits from `first` up to `cap`.
    #[must_use]
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// The longest wait.
    #[must_use]
    pub const fn cap(&self) -> Duration {
        self.cap
    }

    /// The wait after `attempt` failures (the first is 0); `jitter` is from 0 to 1. It takes away at most half, so that
    /// replicas that failed together do not come back together.
    #[must_use]
    pub fn wait(&self, attempt: u32, jitter: f64) -> Duration {
        let whole = self.whole(attempt);
        whole / 2 + (whole / 2).mul_f64(jitter.clamp(0.0, 1.0))
    }

    /// The different waits, in their order.
    #[must_use]
    pub fn steps(&self) -> Vec<Duration> {
        let mut steps = Vec::new();
        while steps.last() != Some(&self.cap) && steps.len() < 32 {
            steps.push(self.whole(u32::try_from(steps.len()).unwrap_or(u32::MAX)));
        }
        steps
    }

    /// As [`Backoff::wait`], for waits that nothing shortens.
    #[must_use]
    pub fn whole(&self, attempt: u32) -> Duration {
        self.first.saturating_mul(2u32.saturating_pow(attempt.min(31))).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

    #[test]
    fn waits_double_up_to_the_cap() {
        let longest: Vec<_> = (0..7).map(|attempt| BACKOFF.wait(attempt, 1.0).as_millis()).collect();
        assert_eq!(longest, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(BACKOFF.wait(u32::MAX, 1.0), Duration::from_secs(5));
        assert_eq!(BACKOFF.whole(u32::MAX), BACKOFF.cap());
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(Backoff::new(Duration::from_millis(1), day).whole(u32::MAX), day);
    }

    #[test]
    fn the_steps_end_with_the_cap() {
        let steps: Vec<_> = BACKOFF.steps().iter().map(Duration::as_millis).collect();
        assert_eq!(steps, [200, 400, 800, 1600, 3200, 5000]);
        assert_eq!(Backoff::new(Duration::ZERO, Duration::from_secs(1)).steps().len(), 32, "they end all the same");
    }

    #[test]
    fn at_least_half_of_a_wait_is_certain() {
        assert_eq!(BACKOFF.wait(0, 0.0), Duration::from_millis(100));
        assert_eq!(BACKOFF.wait(0, -1.0), Duration::from_millis(100));
        assert_eq!(BACKOFF.wait(0, 7.0), Duration::from_millis(200));
    }
}
