//! How many jobs a worker takes together and how long it waits, by how its last turn went.
//!
//! A dependency that is away pauses the kind, and one job at a time asks whether it is back. A batch that fails as a
//! whole is halved until the job at fault is alone and can be set aside. Success doubles again.

use std::time::Duration;

use runtime::backoff::Backoff;

/// How a turn went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing may be done now; a failed job may be after this time.
    Idle(Option<Duration>),
    /// Every claimed job is settled or set aside; there may be more.
    Worked(Batch),
    /// So many jobs failed together, and which of them is at fault is unknown.
    Split(Batch, usize),
    /// What the jobs or the worker depend on is away. It says nothing about the jobs.
    Unavailable,
}

/// Which jobs a batch is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Jobs that never failed.
    Fresh,
    /// Jobs that failed before, each of them alone.
    Retried,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another turn at once.
    AtOnce,
    /// A turn when something is enqueued, and after this time at the latest.
    Wait(Duration),
    /// A turn after this time and not before.
    Pause(Duration),
}

/// The pace of one worker.
#[derive(Clone, Debug)]
pub struct Pace {
    largest: usize,
    poll: Duration,
    fresh: usize,
    retried: usize,
    outages: u32,
}

impl Pace {
    /// Batches of `largest` at most, and a turn at least every `poll`.
    #[must_use]
    pub fn new(largest: usize, poll: Duration) -> Self {
        let largest = largest.max(1);
        Self { largest, poll, fresh: largest, retried: 1, outages: 0 }
    }

    /// How many to claim at most.
    #[must_use]
    pub fn limit(&self, batch: Batch) -> usize {
        match batch {
            Batch::Fresh => self.fresh,
            Batch::Retried => self.retried,
        }
    }

    /// What follows a turn. A pause is by `pauses`, with `jitter` from 0 to 1.
    pub fn after(&mut self, turn: Turn, pauses: &Backoff, jitter: f64) -> Next {
        match turn {
            Turn::Unavailable => {
                let pause = pauses.wait(self.outages, jitter);
                self.outages = self.outages.saturating_add(1);
                (self.fresh, self.retried) = (1, 1);
                return Next::Pause(pause);
            }
            Turn::Idle(due_in) => {
                let wait = due_in.map_or(self.poll, |due_in| due_in.min(self.poll));
                return Next::Wait(wait);
            }
            Turn::Worked(batch) => *self.limit_mut(batch) = self.limit(batch).saturating_mul(2).min(self.largest),
            Turn::Split(batch, claimed) => *self.limit_mut(batch) = (claimed / 2).max(1),
        }
        self.outages = 0;
        Next::AtOnce
    }

    fn limit_mut(&mut self, batch: Batch) -> &mut usize {
        match batch {
            Batch::Fresh => &mut self.fresh,
            Batch::Retried => &mut self.retried,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
    const POLL: Duration = Duration::from_secs(2);

    #[test]
    fn the_one_at_fault_is_alone_after_a_few_steps_and_the_batch_grows_again() {
        let mut pace = Pace::new(500, POLL);
        let mut steps = 0;
        while pace.limit(Batch::Fresh) > 1 {
            let turn = Turn::Split(Batch::Fresh, pace.limit(Batch::Fresh));
            assert_eq!(pace.after(turn, &PAUSES, 1.0), Next::AtOnce);
            steps += 1;
        }
        assert_eq!(steps, 8);
        for _ in 0..10 {
            assert_eq!(pace.after(Turn::Worked(Batch::Fresh), &PAUSES, 1.0), Next::AtOnce);
        }
        assert_eq!(pace.limit(Batch::Fresh), 500);
    }

    #[test]
    fn while_a_dependency_is_away_one_job_at_a_time_asks_for_it_less_and_less_often() {
        let mut pace = Pace::new(16, POLL);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let Next::Pause(pause) = pace.after(Turn::Unavailable, &PAUSES, 1.0) else { panic!("a pause") };
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
        assert_eq!(pace.limit(Batch::Fresh), 1);
        // That nothing could be claimed does not say that it is back.
        pace.after(Turn::Idle(None), &PAUSES, 1.0);
        assert_eq!(pace.limit(Batch::Fresh), 1);
        pace.after(Turn::Worked(Batch::Fresh), &PAUSES, 1.0);
        assert_eq!(pace.limit(Batch::Fresh), 2);
        assert_eq!(pace.after(Turn::Unavailable, &PAUSES, 1.0), Next::Pause(Duration::from_millis(500)));
    }

    #[test]
    fn jobs_that_failed_before_are_tried_alone_until_that_goes_well() {
        let mut pace = Pace::new(8, POLL);
        let mut limits = Vec::new();
        for _ in 0..4 {
            limits.push(pace.limit(Batch::Retried));
            pace.after(Turn::Worked(Batch::Retried), &PAUSES, 1.0);
        }
        assert_eq!(limits, [1, 2, 4, 8]);
        pace.after(Turn::Split(Batch::Retried, 3), &PAUSES, 1.0);
        assert_eq!((pace.limit(Batch::Retried), pace.limit(Batch::Fresh)), (1, 8));
    }

    #[test]
    fn an_idle_worker_waits_for_what_is_due_first() {
        let mut pace = Pace::new(8, POLL);
        assert_eq!(pace.after(Turn::Idle(None), &PAUSES, 1.0), Next::Wait(POLL));
        let soon = Duration::from_millis(40);
        assert_eq!(pace.after(Turn::Idle(Some(soon)), &PAUSES, 1.0), Next::Wait(soon));
        assert_eq!(pace.after(Turn::Idle(Some(Duration::from_secs(60))), &PAUSES, 1.0), Next::Wait(POLL));
    }
}
