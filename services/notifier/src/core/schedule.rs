//! When a message that Telegram refused is tried again.

use std::time::Duration;

/// The waits between tries. They start short, for what heals by itself, and end after a bit more
/// than seven hours, when the news is old.
const WAITS: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(6 * 60 * 60),
];
/// A wait is stretched by up to this share, so that messages which failed together part.
const JITTER: f64 = 0.2;

/// The waits of one message, all of them scaled alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    scale: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

impl Schedule {
    /// The schedule with every wait multiplied by `scale`: tests have no hours to spend.
    #[must_use]
    pub const fn scaled(scale: f64) -> Self {
        Self { scale }
    }

    /// How long to wait after the `failures`-th failure (the first is 1), given a random number from
    /// 0 to 1; `None` when the message is given up.
    #[must_use]
    pub fn wait(&self, failures: u32, random: f64) -> Option<Duration> {
        let wait = WAITS.get(failures.saturating_sub(1) as usize)?;
        Some(self.stretched(*wait, random))
    }

    /// As [`Schedule::wait`], for what is never given up: the last wait comes again and again.
    #[must_use]
    pub fn wait_without_end(&self, failures: u32, random: f64) -> Duration {
        self.wait(failures, random).unwrap_or_else(|| self.stretched(WAITS[WAITS.len() - 1], random))
    }

    fn stretched(&self, wait: Duration, random: f64) -> Duration {
        wait.mul_f64(self.scale * (1.0 + JITTER * random.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_grow_and_end() {
        let waits: Vec<_> = (1..=7).map(|failures| Schedule::default().wait(failures, 0.0)).collect();
        let seconds = [5, 30, 120, 600, 3600, 21_600].map(|seconds| Some(Duration::from_secs(seconds)));
        assert_eq!(waits[..6], seconds);
        assert_eq!(waits[6], None);
    }

    #[test]
    fn jitter_only_ever_stretches_a_wait_and_by_a_fifth_at_most() {
        let schedule = Schedule::default();
        assert_eq!(schedule.wait(1, 1.0), Some(Duration::from_secs(6)));
        assert_eq!(schedule.wait(1, 7.0), Some(Duration::from_secs(6)));
        assert_eq!(schedule.wait(1, -7.0), Some(Duration::from_secs(5)));
    }

    #[test]
    fn every_wait_can_be_scaled() {
        assert_eq!(Schedule::scaled(0.01).wait(1, 0.0), Some(Duration::from_millis(50)));
        assert_eq!(Schedule::scaled(0.01).wait(7, 0.0), None);
    }
}
