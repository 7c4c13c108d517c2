use std::time::{Duration, Instant};

/// Lets one of many equal lines through per interval and counts the others.
#[derive(Debug)]
pub struct LogThrottle {
    interval: Duration,
    last: Option<Instant>,
    suppressed: u32,
}

impl LogThrottle {
    pub const fn new(interval: Duration) -> Self {
        Self { interval, last: None, suppressed: 0 }
    }

    /// Whether a line may be written at `now`, and how many were kept back since the last.
    pub fn admit(&mut self, now: Instant) -> Option<u32> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_and_the_others_are_counted() {
        let start = Instant::now();
        let mut log_throttle = LogThrottle::new(Duration::from_secs(10));
        let admitted: Vec<_> =
            [0, 1, 9, 10, 11, 25].map(|second| log_throttle.admit(start + Duration::from_secs(second))).into();
        assert_eq!(admitted, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
