//! Whose limit a 429 is about: one chat's, or the whole bot's.
//!
//! Telegram's answer does not say. The first one is believed to be the chat's: only that chat waits,
//! and everybody else is served on. When a *different* chat is told the same before that wait is
//! over, two chats have been kept at a pace that either of them bears, so it is the bot's. Unless a
//! message to a third one, sent in between, was accepted: that was no bot at its limit. At worst
//! a few messages that were under way are refused before the bot falls silent; the other way round
//! one busy group would silence everybody.

use std::time::{Duration, Instant};

use super::pacing::ChatId;

/// Whose limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This chat's: it waits.
    Chat,
    /// The bot's: everybody waits.
    Bot,
}

/// The latest 429.
#[derive(Debug, Default)]
pub struct Throttle {
    latest: Option<Told>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    chat: ChatId,
    at: Instant,
    until: Instant,
}

impl Throttle {
    /// Takes note that a message to `chat` was answered with 429 at `now`.
    pub fn told(&mut self, chat: ChatId, retry_after: Duration, now: Instant) -> Scope {
        let told = Told { chat, at: now, until: now + retry_after };
        match self.latest.replace(told) {
            Some(before) if before.chat != chat && now < before.until => {
                // The longer wait decides how long a third chat's 429 counts as the bot's.
                self.latest = Some(Told { until: before.until.max(told.until), ..told });
                Scope::Bot
            }
            _ => Scope::Chat,
        }
    }

    /// Takes note that a message was accepted which had been sent at `sent`.
    pub fn accepted(&mut self, sent: Instant) {
        self.latest = self.latest.filter(|told| sent <= told.at);
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
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.told(ONE, WAIT, now), Scope::Chat);
        assert_eq!(throttle.told(ONE, WAIT, now + WAIT / 2), Scope::Chat);
    }

    #[test]
    fn a_second_chat_within_the_wait_makes_it_the_bots() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        throttle.told(ONE, WAIT, now);
        assert_eq!(throttle.told(TWO, WAIT / 10, now + WAIT / 2), Scope::Bot);
        assert_eq!(throttle.told(ONE, WAIT, now + WAIT / 2), Scope::Bot);
    }

    #[test]
    fn what_others_send_in_between_proves_that_it_is_not_the_bots() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        throttle.told(ONE, WAIT, now);
        throttle.accepted(now);
        assert_eq!(throttle.told(TWO, WAIT, now + WAIT / 5), Scope::Bot, "it was under way already");
        throttle.accepted(now + WAIT / 2);
        assert_eq!(throttle.told(ONE, WAIT, now + WAIT / 2), Scope::Chat);
    }

    #[test]
    fn a_second_chat_after_the_wait_has_a_limit_of_its_own() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        throttle.told(ONE, WAIT, now);
        assert_eq!(throttle.told(TWO, WAIT, now + WAIT), Scope::Chat);
    }
}
