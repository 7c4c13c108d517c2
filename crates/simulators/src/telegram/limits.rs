//! Telegram's limits, as far as they are known.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// How much may be sent before Telegram answers 429. The real limits are neither exact nor fixed;
/// these are the ones it names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Messages a second into one chat: about 1.
    pub chat_per_second: f64,
    /// How many of one chat may come at once before that counts: short bursts pass.
    pub chat_burst: u32,
    /// Messages into one group within [`Limits::group_window`]: 20.
    pub group_messages: u32,
    /// What the group's messages are counted over: a minute, less half a second, since messages that
    /// were sent far enough apart may come a little closer together.
    pub group_window: Duration,
    /// Messages a second in all: 30, and as many at once.
    pub overall_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            chat_per_second: 1.0,
            chat_burst: 3,
            group_messages: 20,
            group_window: Duration::from_millis(59_500),
            overall_per_second: 30,
        }
    }
}

/// What was sent lately. Times are passed in, counted from any moment.
pub(super) struct Meter {
    limits: Limits,
    overall: Level,
    chats: HashMap<i64, Level>,
    groups: HashMap<i64, VecDeque<Duration>>,
}

/// A bucket that fills with time and loses one for each message.
struct Level {
    messages: f64,
    at: Duration,
}

impl Level {
    fn now(&self, rate: f64, capacity: f64, now: Duration) -> f64 {
        let gained = now.saturating_sub(self.at).as_secs_f64() * rate;
        (self.messages + gained).min(capacity)
    }
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Self {
        let overall = Level { messages: f64::from(limits.overall_per_second), at: Duration::ZERO };
        Self { limits, overall, chats: HashMap::new(), groups: HashMap::new() }
    }

    /// Counts a message into `chat`.
    ///
    /// # Errors
    /// After how many seconds it would pass; then nothing was counted.
    pub(super) fn take(&mut self, chat: i64, now: Duration) -> Result<(), u64> {
        let Limits { chat_per_second, chat_burst, group_messages, group_window, overall_per_second } = self.limits;
        let (burst, overall_rate) = (f64::from(chat_burst), f64::from(overall_per_second));

        let overall = self.overall.now(overall_rate, overall_rate, now);
        let mut wait = (1.0 - overall) / overall_rate;
        let level = self.chats.entry(chat).or_insert(Level { messages: burst, at: now });
        let in_chat = level.now(chat_per_second, burst, now);
        wait = wait.max((1.0 - in_chat) / chat_per_second);
        // The ids of groups are negative.
        let group = (chat < 0).then(|| self.groups.entry(chat).or_default());
        if let Some(times) = &group
            && times.len() >= group_messages as usize
            && let Some(oldest) = times.front()
        {
            wait = wait.max((*oldest + group_window).as_secs_f64() - now.as_secs_f64());
        }
        if wait > 0.0 {
            return Err((wait.ceil() as u64).max(1));
        }

        self.overall = Level { messages: overall - 1.0, at: now };
        *level = Level { messages: in_chat - 1.0, at: now };
        if let Some(times) = group {
            times.push_back(now);
            while times.len() > group_messages as usize {
                times.pop_front();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_chat_takes_a_short_burst_and_then_one_a_second() {
        let mut meter = Meter::new(Limits::default());
        let taken: Vec<_> = (0..4).map(|_| meter.take(7, seconds(0.0))).collect();
        assert_eq!(taken, [Ok(()), Ok(()), Ok(()), Err(1)]);
        assert_eq!(meter.take(8, seconds(0.0)), Ok(()), "another chat is not concerned");
        assert_eq!(meter.take(7, seconds(0.9)), Err(1));
        assert_eq!(meter.take(7, seconds(1.0)), Ok(()));
        assert!((2..100).all(|second| meter.take(7, seconds(f64::from(second))).is_ok()));
    }

    #[test]
    fn a_group_takes_twenty_a_minute() {
        let mut meter = Meter::new(Limits::default());
        assert!((0..20).all(|second| meter.take(-100, seconds(f64::from(second))).is_ok()));
        assert_eq!(meter.take(-100, seconds(20.0)), Err(40));
        assert_eq!(meter.take(-100, seconds(60.0)), Ok(()));
        assert_eq!(meter.take(-100, seconds(60.1)), Err(1));
    }

    #[test]
    fn all_chats_together_take_thirty_a_second() {
        let mut meter = Meter::new(Limits::default());
        let passed = |meter: &mut Meter, at: f64, from: i64| {
            (from..from + 100).filter(|chat| meter.take(*chat, seconds(at)).is_ok()).count()
        };
        assert_eq!(passed(&mut meter, 0.0, 0), 30);
        assert_eq!(passed(&mut meter, 0.5, 1000), 15);
        assert_eq!(passed(&mut meter, 9.0, 2000), 30);
    }
}
