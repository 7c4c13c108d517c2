//! How long to wait before something is tried again.

use std::time::Duration;

/// The first wait.
const SHORTEST: Duration = Duration::from_millis(500);
/// No wait is longer: a call costs next to nothing, and interests should not outlive their user by
/// much once data-collector is back.
const LONGEST: Duration = Duration::from_secs(15);

/// How long to wait after so many failures in a row: twice as long each time, up to a cap, and less
/// by up to half through `jitter` (from 0 to 1), so that replicas do not call in step.
#[must_use]
pub fn wait_after(failures: u32, jitter: f64) -> Duration {
    let doubled = SHORTEST.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(LONGEST).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_cap() {
        let waits: Vec<_> = (1..=7).map(|failures| wait_after(failures, 0.0).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
        assert_eq!(wait_after(u32::MAX, 0.0), LONGEST);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        assert_eq!(wait_after(1, 1.0), Duration::from_millis(250));
        assert_eq!(wait_after(0, 7.0), Duration::from_millis(250));
    }
}
