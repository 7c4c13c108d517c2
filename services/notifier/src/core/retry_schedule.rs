//! When a message is tried again that Telegram refused or left unanswered, or whose chat it cannot reach.

use std::time::Duration;

use runtime::backoff::Backoff;

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
/// The waits before a message is repeated that may have arrived without an answer. They double, so that
/// a person whose messages arrive while every answer is lost reads at most 8 copies in the first hour and
/// 31 in a day, not four a minute.
const REPEATS: Backoff = Backoff::new(Duration::from_secs(15), Duration::from_secs(60 * 60));
/// The waits before Telegram is asked again about a chat that cannot be reached. A chat that is
/// named again does not wait for them.
const CHAT_RETRIES: [Duration; 5] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(60 * 60),
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

    /// How long to wait before a message is sent again that may have arrived `unclear` times already (the
    /// first is 1). The last wait comes again and again.
    #[must_use]
    pub fn repeat_wait(&self, unclear: u32, random: f64) -> Duration {
        self.stretched(REPEATS.whole(unclear.saturating_sub(1)), random)
    }

    /// The waits of [`Schedule::repeat_wait`] in their order, unstretched.
    #[must_use]
    pub fn repeat_waits(&self) -> Vec<Duration> {
        REPEATS.steps().into_iter().map(|wait| self.stretched(wait, 0.0)).collect()
    }

    /// How long to leave a chat alone that could not be reached `refusals` times in a row (the first is 1).
    #[must_use]
    pub fn chat_wait(&self, refusals: u32, random: f64) -> Duration {
        self.stretched(capped(&CHAT_RETRIES, refusals), random)
    }

    fn stretched(&self, wait: Duration, random: f64) -> Duration {
        wait.mul_f64(self.scale * (1.0 + JITTER * random.clamp(0.0, 1.0)))
    }
}

/// The wait after the `count`-th time, the last one for every later time.
fn capped(waits: &[Duration], count: u32) -> Duration {
    let place = (count.saturating_sub(1) as usize).min(waits.len() - 1);
    waits[place]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_of_what_may_have_arrived_double_up_to_an_hour_and_never_end() {
        let schedule = Schedule::default();
        let seconds: Vec<_> = (1..=11).map(|unclear| schedule.repeat_wait(unclear, 0.0).as_secs()).collect();
        assert_eq!(seconds, [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert_eq!(schedule.repeat_wait(u32::MAX, 1.0), Duration::from_secs(4320));
        assert_eq!(schedule.repeat_wait(0, 0.0), Duration::from_secs(15));
        assert_eq!(schedule.repeat_waits().len(), 9);
    }

    #[test]
    fn the_copies_of_a_message_whose_answers_are_all_lost_are_few() {
        // The call itself takes ten seconds each time.
        let within = |hours: u64| {
            let mut copies = 0u32;
            let mut at = 0;
            while at < hours * 3600 {
                copies += 1;
                at += 10 + Schedule::default().repeat_wait(copies, 0.0).as_secs();
            }
            copies
        };
        assert_eq!((within(1), within(24)), (8, 31));
    }

    #[test]
    fn a_chat_that_cannot_be_reached_is_asked_about_less_and_less() {
        let minutes: Vec<_> =
            (1..=6).map(|refusals| Schedule::default().chat_wait(refusals, 0.0).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 5, 15, 30, 60, 60]);
    }

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
