//! Whose rate limit a 429 is about: one chat's, or the whole bot's.
//!
//! Telegram's answer does not say. The first one is believed to be the chat's: only that chat waits,
//! and everybody else is served on. When a *different* chat is told the same before that wait is
//! over, two chats have been kept at a pace that either of them bears, so it is the bot's. Unless a
//! message to a third one, sent in between, was accepted: that was no bot at its limit. At worst
//! a few messages that were under way are refused before the bot falls silent; the other way round
//! one busy group would silence everybody.

use std::time::{Duration, Instant};

use super::rate_limiter::ChatId;

/// Whose limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitScope {
    /// This chat's: it waits.
    Chat,
    /// The bot's: everybody waits.
    Bot,
}

/// The latest 429.
#[derive(Debug, Default)]
pub struct RateLimitTracker {
    latest: Option<RateLimitReply>,
}

#[derive(Clone, Copy, Debug)]
struct RateLimitReply {
    chat: ChatId,
    at: Instant,
    until: Instant,
}

impl RateLimitTracker {
    /// Takes note that a message to `chat` was answered with 429 at `now`.
    pub fn limited(&mut self, chat: ChatId, retry_after: Duration, now: Instant) -> RateLimitScope {
        let limited = RateLimitReply { chat, at: now, until: now + retry_after };
        match self.latest.replace(limited) {
            Some(before) if before.chat != chat && now < before.until => {
                // The longer wait decides how long a third chat's 429 counts as the bot's.
                self.latest = Some(RateLimitReply { until: before.until.max(limited.until), ..limited });
                RateLimitScope::Bot
            }
            _ => RateLimitScope::Chat,
        }
    }

    /// Takes note that a message was accepted which had been sent at `sent`.
    pub fn accepted(&mut self, sent: Instant) {
        self.latest = self.latest.filter(|limited| sent <= limited.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ChatId = ChatId(1);
    const TWO: ChatId = ChatId(2);
    const WAIT: Duration = Duration::from_secs(10);

    #[test]
    fn one_chat_alone_is_that_chats_limit_however_often() {
        let (mut rate_limits, now) = (RateLimitTracker::default(), Instant::now());
        assert_eq!(rate_limits.limited(ONE, WAIT, now), RateLimitScope::Chat);
        assert_eq!(rate_limits.limited(ONE, WAIT, now + WAIT / 2), RateLimitScope::Chat);
    }

    #[test]
    fn a_second_chat_within_the_wait_makes_it_the_bots() {
        let (mut rate_limits, now) = (RateLimitTracker::default(), Instant::now());
        rate_limits.limited(ONE, WAIT, now);
        assert_eq!(rate_limits.limited(TWO, WAIT / 10, now + WAIT / 2), RateLimitScope::Bot);
        assert_eq!(rate_limits.limited(ONE, WAIT, now + WAIT / 2), RateLimitScope::Bot);
    }

    #[test]
    fn what_others_send_in_between_proves_that_it_is_not_the_bots() {
        let (mut rate_limits, now) = (RateLimitTracker::default(), Instant::now());
        rate_limits.limited(ONE, WAIT, now);
        rate_limits.accepted(now);
        assert_eq!(rate_limits.limited(TWO, WAIT, now + WAIT / 5), RateLimitScope::Bot, "it was under way already");
        rate_limits.accepted(now + WAIT / 2);
        assert_eq!(rate_limits.limited(ONE, WAIT, now + WAIT / 2), RateLimitScope::Chat);
    }

    #[test]
    fn a_second_chat_after_the_wait_has_a_limit_of_its_own() {
        let (mut rate_limits, now) = (RateLimitTracker::default(), Instant::now());
        rate_limits.limited(ONE, WAIT, now);
        assert_eq!(rate_limits.limited(TWO, WAIT, now + WAIT), RateLimitScope::Chat);
    }
}
