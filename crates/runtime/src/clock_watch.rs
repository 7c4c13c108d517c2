//! Whether a clock can be trusted, by a second witness that only ever runs forward.
//!
//! A clock, the database's or the machine's, may be set back or forth by hours, stand still, or be years
//! ahead until the network corrects it. Compared with the time that passed in this process, a step shows as
//! a difference. The first look stays the measure, so that a clock that is slow or stands still is noticed
//! as well; a clock that drifts is corrected now and then by a few seconds, which does no harm.

use std::time::{Duration, Instant};

/// Smaller differences are the network's and the scheduler's.
const TOLERANCE_SECONDS: f64 = 5.0;

/// What a clock showed, and between which two moments it was read.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Seconds since 1970 on the clock.
    pub shown: f64,
    /// When it was asked.
    pub asked: Instant,
    /// When it had answered.
    pub answered: Instant,
}

/// Compares a clock with the time that passed.
#[derive(Debug, Default)]
pub struct ClockWatch {
    anchor: Option<Sample>,
    steady_since: Option<Instant>,
}

impl ClockWatch {
    /// Takes note of a sample. Answers by how many seconds the clock was set, if it was.
    pub fn observe(&mut self, sample: Sample) -> Option<f64> {
        let Some(anchor) = self.anchor else {
            self.start(sample);
            return None;
        };
        let shown = sample.shown - anchor.shown;
        let least = sample.asked.saturating_duration_since(anchor.answered).as_secs_f64();
        let most = sample.answered.saturating_duration_since(anchor.asked).as_secs_f64();
        if shown > most + TOLERANCE_SECONDS {
            self.start(sample);
            return Some(shown - most);
        }
        if shown < least - TOLERANCE_SECONDS {
            self.start(sample);
            return Some(shown - least);
        }
        None
    }

    /// For how long the clock has been watched without a step.
    #[must_use]
    pub fn steady_for(&self, now: Instant) -> Duration {
        self.steady_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn start(&mut self, sample: Sample) {
        self.anchor = Some(sample);
        self.steady_since = Some(sample.answered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(shown: f64, begun: Instant, after: u64) -> Sample {
        let at = begun + Duration::from_secs(after);
        Sample { shown, asked: at, answered: at }
    }

    #[test]
    fn a_clock_that_runs_with_the_time_is_steady() {
        let (mut watch, begun) = (ClockWatch::default(), Instant::now());
        for second in 0..1000u32 {
            assert_eq!(watch.observe(sample(1e9 + f64::from(second), begun, u64::from(second))), None);
        }
        assert_eq!(watch.steady_for(begun + Duration::from_secs(1000)), Duration::from_secs(1000));
    }

    #[test]
    fn a_step_in_either_direction_is_told_once_and_trust_begins_anew() {
        for step in [3600.0, -3600.0, 1e8] {
            let (mut watch, begun) = (ClockWatch::default(), Instant::now());
            watch.observe(sample(1e9, begun, 0));
            assert_eq!(watch.observe(sample(1e9 + 10.0 + step, begun, 10)), Some(step));
            assert_eq!(watch.observe(sample(1e9 + 20.0 + step, begun, 20)), None);
            assert_eq!(watch.steady_for(begun + Duration::from_secs(20)), Duration::from_secs(10));
        }
    }

    #[test]
    fn a_clock_that_stands_still_falls_behind_until_it_is_noticed() {
        let (mut watch, begun) = (ClockWatch::default(), Instant::now());
        let steps: Vec<_> = (0..20).filter_map(|second| watch.observe(sample(1e9, begun, second))).collect();
        assert_eq!(steps, [-6.0, -6.0, -6.0]);
    }

    #[test]
    fn a_slow_answer_is_no_step() {
        let (mut watch, begun) = (ClockWatch::default(), Instant::now());
        let slow = |shown, from, to| Sample {
            shown,
            asked: begun + Duration::from_secs(from),
            answered: begun + Duration::from_secs(to),
        };
        assert_eq!(watch.observe(slow(1e9 + 14.0, 0, 15)), None);
        assert_eq!(watch.observe(slow(1e9 + 20.0, 20, 35)), None);
        assert_eq!(watch.observe(slow(1e9 + 70.0, 40, 71)), None);
    }
}
