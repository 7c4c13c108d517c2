//! When to stop starting a server again.

use std::time::{Duration, Instant};

/// So many deaths within [`WINDOW`] are no accident.
const LIMIT: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// The recent deaths of one server, and how many are too many.
#[derive(Debug, Default)]
pub(crate) struct RestartLimit(Vec<Instant>);

impl RestartLimit {
    /// Notes a death; the number of deaths within the window when that is too many.
    pub(crate) fn exceeded_by(&mut self, now: Instant) -> Option<usize> {
        self.0.retain(|death| now.duration_since(*death) < WINDOW);
        self.0.push(now);
        (self.0.len() >= LIMIT).then_some(self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_deaths_within_a_minute_are_too_many() {
        let (start, mut limit) = (Instant::now(), RestartLimit::default());
        let told = [0, 30, 59].map(|second| limit.exceeded_by(start + Duration::from_secs(second)));
        assert_eq!(told, [None, None, Some(3)]);
    }

    #[test]
    fn deaths_that_are_a_minute_apart_are_forgotten() {
        let (start, mut limit) = (Instant::now(), RestartLimit::default());
        let told = [0, 30, 61, 91].map(|second| limit.exceeded_by(start + Duration::from_secs(second)));
        assert_eq!(told, [None; 4]);
    }
}
