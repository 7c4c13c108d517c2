use std::time::Duration;

/// Waits that double from attempt to attempt, up to a cap, half of each drawn by lot so that
/// workers which failed together do not come back together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// The wait after `attempt` failures (the first is 0); `jitter` is from 0 to 1.
    pub fn wait(&self, attempt: u32, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(attempt.min(20)));
        let whole = doubled.min(self.cap);
        whole / 2 + (whole / 2).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let longest: Vec<_> = (0..7).map(|attempt| backoff.wait(attempt, 1.0).as_millis()).collect();
        assert_eq!(longest, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.wait(u32::MAX, 1.0), Duration::from_secs(5));
    }

    #[test]
    fn at_least_half_of_a_wait_is_certain() {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        assert_eq!(backoff.wait(0, 0.0), Duration::from_millis(100));
        assert_eq!(backoff.wait(0, -1.0), Duration::from_millis(100));
    }
}
