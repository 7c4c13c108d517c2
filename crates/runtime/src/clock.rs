//! The clock that is passed to every part that needs one.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};

/// How often a wait looks at the clock, in real time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A clock that gained or lost more than this between two looks did not run, but was set, or stood still.
const JUMP: TimeDelta = TimeDelta::seconds(5);

/// Tells the time and waits on it: the system's clock, or a replay's that starts anywhere and runs
/// faster.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    replay: Option<Replay>,
    /// What a test has done to it.
    control: Option<&'static Mutex<Position>>,
}

#[derive(Clone, Copy, Debug)]
struct Replay {
    begun: Instant,
    begins_at: DateTime<Utc>,
    speed: u32,
}

/// What a clock showed at some moment, by which a later look can tell whether it was set meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    /// The time on the clock.
    pub time: DateTime<Utc>,
    at: Instant,
}

/// Why a wait for a time ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The time has come.
    OnTime,
    /// The clock was set by so much, or the machine slept: whatever was planned by it is to be planned anew.
    ClockJumped(TimeDelta),
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self { replay: None, control: None }
    }

    /// A clock that shows `begins_at` now and runs `speed` times as fast as the system's (at least
    /// once as fast).
    #[must_use]
    pub fn replay(begins_at: DateTime<Utc>, speed: u32) -> Self {
        Self { replay: Some(Replay { begun: Instant::now(), begins_at, speed: speed.max(1) }), control: None }
    }

    /// The same as [`Clock::replay`], to be set by a test as a person, a time server or a suspended machine
    /// would. The hands are never freed, so that clocks stay `Copy`.
    #[must_use]
    pub fn settable(begins_at: DateTime<Utc>, speed: u32) -> (Self, ClockControl) {
        let control: &'static Mutex<Position> = Box::leak(Box::default());
        let clock = Self { control: Some(control), ..Self::replay(begins_at, speed) };
        (clock, ClockControl { clock })
    }

    /// Whether it shows a time of its own, and not the system's.
    #[must_use]
    pub const fn is_replay(&self) -> bool {
        self.replay.is_some()
    }

    /// The time on this clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let Some(control) = self.control else { return self.unset() };
        let position = *control.lock().unwrap_or_else(PoisonError::into_inner);
        position.stopped_at.unwrap_or_else(|| self.unset() + position.ahead)
    }

    /// The time on this clock, to be compared later.
    #[must_use]
    pub fn reading(&self) -> ClockReading {
        ClockReading { time: self.now(), at: Instant::now() }
    }

    /// The time as if no test had set it.
    fn unset(&self) -> DateTime<Utc> {
        match &self.replay {
            None => Utc::now(),
            Some(replay) => replay.begins_at + replay.begun.elapsed() * replay.speed,
        }
    }

    /// Waits until `duration` has passed on this clock.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration / self.speed()).await;
    }

    /// Waits until this clock shows `at`, or until it was set since `planned`, when `at` was decided on. A wait by
    /// duration alone would end hours late after the machine was suspended, or hours early or late after the clock
    /// was set.
    pub async fn sleep_until(&self, at: DateTime<Utc>, planned: ClockReading) -> Woken {
        let mut last = planned;
        loop {
            let now = self.reading();
            let ran = TimeDelta::from_std((now.at - last.at) * self.speed()).unwrap_or(TimeDelta::MAX);
            let jump = now.time - last.time - ran;
            if jump.abs() > JUMP * i32::try_from(self.speed()).unwrap_or(i32::MAX) {
                return Woken::ClockJumped(jump);
            }
            last = now;
            let Ok(left) = (at - now.time).to_std() else { return Woken::OnTime };
            if left.is_zero() {
                return Woken::OnTime;
            }
            // A millisecond more, since the two clocks involved count differently below that.
            let left = left / self.speed() + Duration::from_millis(1);
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
        }
    }

    fn speed(&self) -> u32 {
        self.replay.map_or(1, |replay| replay.speed)
    }
}

/// Sets a clock of [`Clock::settable`].
#[derive(Clone, Copy, Debug)]
pub struct ClockControl {
    clock: Clock,
}

/// How far a clock was set, and whether it stands still.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    ahead: TimeDelta,
    stopped_at: Option<DateTime<Utc>>,
}

impl ClockControl {
    /// Sets the clock forward, or back.
    pub fn step(&self, by: TimeDelta) {
        self.change(|position, _| {
            position.ahead += by;
            position.stopped_at = position.stopped_at.map(|at| at + by);
        });
    }

    /// Stops the clock.
    pub fn stop(&self) {
        let now = self.clock.now();
        self.change(|position, _| position.stopped_at = Some(now));
    }

    /// Lets the clock go on from where it stands.
    pub fn go(&self) {
        self.change(|position, unset| {
            if let Some(at) = position.stopped_at.take() {
                position.ahead = at - unset;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Position, DateTime<Utc>)) {
        if let Some(control) = self.clock.control {
            change(&mut control.lock().unwrap_or_else(PoisonError::into_inner), self.clock.unset());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins_at() -> DateTime<Utc> {
        "2021-10-07T12:00:00Z".parse().expect("a time")
    }

    #[tokio::test]
    async fn a_replay_runs_faster_than_the_system() {
        let clock = Clock::replay(begins_at(), 1000);
        let before = Instant::now();
        clock.sleep(Duration::from_secs(20)).await;
        assert!(before.elapsed() < Duration::from_secs(10));
        assert!(clock.now() - begins_at() >= TimeDelta::seconds(20));
    }

    #[tokio::test]
    async fn a_wait_for_a_time_ends_on_time() {
        let clock = Clock::replay(begins_at(), 1000);
        assert_eq!(clock.sleep_until(begins_at() + TimeDelta::seconds(20), clock.reading()).await, Woken::OnTime);
        assert!(clock.now() >= begins_at() + TimeDelta::seconds(20));
        assert_eq!(clock.sleep_until(begins_at(), clock.reading()).await, Woken::OnTime, "it was there before");
    }

    #[tokio::test]
    async fn a_wait_for_a_time_ends_when_the_clock_is_set() {
        for hours in [-6, 6] {
            let (clock, control) = Clock::settable(begins_at(), 1);
            let set = async {
                tokio::task::yield_now().await;
                control.step(TimeDelta::hours(hours));
            };
            let (woken, ()) = tokio::join!(clock.sleep_until(begins_at() + TimeDelta::hours(12), clock.reading()), set);
            let Woken::ClockJumped(jump) = woken else { panic!("{woken:?}") };
            assert_eq!((jump.num_seconds() + hours.signum()) / 3600, hours, "{jump}");
            // Also when that was before the wait began.
            let planned = clock.reading();
            control.step(TimeDelta::hours(hours));
            let woken = clock.sleep_until(planned.time + TimeDelta::hours(12), planned).await;
            assert!(matches!(woken, Woken::ClockJumped(_)), "{woken:?}");
        }
    }

    #[tokio::test]
    async fn a_clock_can_stand_still_and_go_on() {
        let (clock, control) = Clock::settable(begins_at(), 1000);
        control.stop();
        let stopped_at = clock.now();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(clock.now(), stopped_at);
        control.go();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(clock.now() - stopped_at >= TimeDelta::seconds(20));
        assert!(clock.now() - stopped_at < TimeDelta::hours(1));
    }
}
