//! The clock that is passed to whoever needs one.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Tells the time and waits on it: the system's clock, or a replay's that starts anywhere and runs
/// faster.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    replay: Option<Replay>,
}

#[derive(Clone, Copy, Debug)]
struct Replay {
    begun: Instant,
    begins_at: DateTime<Utc>,
    speed: u32,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self { replay: None }
    }

    /// A clock that shows `begins_at` now and runs `speed` times as fast as the system's (at least
    /// once as fast).
    #[must_use]
    pub fn replay(begins_at: DateTime<Utc>, speed: u32) -> Self {
        Self { replay: Some(Replay { begun: Instant::now(), begins_at, speed: speed.max(1) }) }
    }

    /// The time on this clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.replay {
            None => Utc::now(),
            Some(replay) => replay.begins_at + replay.begun.elapsed() * replay.speed,
        }
    }

    /// Waits until `duration` has passed on this clock.
    pub async fn sleep(&self, duration: Duration) {
        let speed = self.replay.map_or(1, |replay| replay.speed);
        tokio::time::sleep(duration / speed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replay_runs_faster_than_the_system() {
        let begins_at = "2021-10-07T12:00:00Z".parse().expect("a time");
        let clock = Clock::replay(begins_at, 1000);
        let before = Instant::now();
        clock.sleep(Duration::from_secs(20)).await;
        assert!(before.elapsed() < Duration::from_secs(10));
        assert!(clock.now() - begins_at >= chrono::TimeDelta::seconds(20));
    }
}
