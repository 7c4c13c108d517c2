//! Whether Telegram works at all, learnt from the messages themselves.
//!
//! While it does not, nothing is sent but one probe at a time, and no message pays for it: neither its schedule
//! nor its number of failures changes. Two dangers lie in that rule, and both end in one message stopping
//! everybody's. A message that Telegram always answers with 500 would be the probe for ever: so the probe is
//! the message that failed least. And it would open the breaker again whenever it is tried: so a message that
//! opened the breaker twice while another one closed it at once is itself to blame from then on: it waits
//! longer from time to time, and is never given up for it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::send_result::TelegramFault;

/// How many strikes a message has before it is to blame.
const STRIKE_LIMIT: u32 = 2;

/// What the breaker lets through now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendPermit {
    /// Anything.
    Any,
    /// One message, to see whether Telegram works again.
    Probe,
    /// Nothing before this time.
    NotBefore(Instant),
    /// Nothing before the probe has been answered.
    AwaitProbe,
}

/// The state, as the metric shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything is sent.
    Closed,
    /// A probe is under way, and nothing else is sent.
    HalfOpen,
    /// Nothing is sent, or nothing but the next probe.
    Open,
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultScope {
    /// Telegram as a whole: the message waits, and nothing is held against it.
    Channel,
    /// The message.
    Message {
        /// How often it was blamed, this time included.
        times: u32,
    },
}

/// The breaker's state.
#[derive(Debug, Default)]
pub struct TelegramBreaker {
    outage: Option<Outage>,
    /// How often each message failed since the breaker opened.
    failures: HashMap<Uuid, u32>,
    /// How often each message opened the breaker that another message closed, or would have.
    strikes: HashMap<Uuid, u32>,
}

#[derive(Debug)]
struct Outage {
    fault: TelegramFault,
    /// Which message; `None` when another process learnt it.
    opened_by: Option<Uuid>,
    until: Instant,
    probe: Option<Uuid>,
}

impl TelegramBreaker {
    /// What may be sent at `now`.
    #[must_use]
    pub fn permit(&self, now: Instant) -> SendPermit {
        match &self.outage {
            None => SendPermit::Any,
            Some(Outage { probe: Some(_), .. }) => SendPermit::AwaitProbe,
            Some(outage) if now < outage.until => SendPermit::NotBefore(outage.until),
            Some(_) => SendPermit::Probe,
        }
    }

    /// The state, as the metric shows it.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match &self.outage {
            None => BreakerState::Closed,
            Some(Outage { probe: Some(_), .. }) => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        }
    }

    /// Why the breaker is open, if it is.
    #[must_use]
    pub fn fault(&self) -> Option<TelegramFault> {
        self.outage.as_ref().map(|outage| outage.fault)
    }

    /// How often `message` has failed since the breaker opened: of several, the one with the fewest
    /// failures is the next probe.
    #[must_use]
    pub fn failures(&self, message: Uuid) -> u32 {
        self.failures.get(&message).copied().unwrap_or_default()
    }

    /// `message` is the probe.
    pub fn probe(&mut self, message: Uuid) {
        if let Some(outage) = &mut self.outage {
            outage.probe = Some(message);
        }
    }

    /// `message` was not sent after all.
    pub fn not_sent(&mut self, message: Uuid) {
        if let Some(outage) = &mut self.outage
            && outage.probe == Some(message)
        {
            outage.probe = None;
        }
    }

    /// Telegram asked another process to be silent until then.
    pub fn was_silenced(&mut self, until: Instant) {
        match &mut self.outage {
            Some(outage) => outage.until = outage.until.max(until),
            None => self.outage = Some(Outage { fault: TelegramFault::TooMany, opened_by: None, until, probe: None }),
        }
    }

    /// `message` met `fault`; the next probe may be sent after `wait`.
    pub fn failed(&mut self, message: Uuid, fault: TelegramFault, wait: Duration, now: Instant) -> FaultScope {
        let until = now + wait;
        let strikes = self.strikes_against(message, fault);
        match &mut self.outage {
            None if strikes >= STRIKE_LIMIT => {
                self.strikes.insert(message, strikes.saturating_add(1));
                return FaultScope::Message { times: strikes - STRIKE_LIMIT + 1 };
            }
            None => self.outage = Some(Outage { fault, opened_by: Some(message), until, probe: None }),
            Some(outage) if outage.probe == Some(message) => {
                *outage = Outage { fault, opened_by: outage.opened_by, until, probe: None };
            }
            // It was under way when the breaker opened. A wait that Telegram named counts all the same.
            Some(outage) if fault == TelegramFault::TooMany => outage.until = outage.until.max(until),
            Some(_) => {}
        }
        *self.failures.entry(message).or_default() += 1;
        FaultScope::Channel
    }

    /// Telegram answered something about `message`, so Telegram works. What was under way when the breaker
    /// opened proves nothing about now; only the probe does. Answers whether the breaker closed.
    pub fn answered(&mut self, message: Uuid) -> bool {
        if self.outage.as_ref().is_none_or(|outage| outage.probe != Some(message)) {
            return false;
        }
        if let Some(opened_by) = self.outage.take().and_then(|outage| outage.opened_by)
            && opened_by != message
        {
            *self.strikes.entry(opened_by).or_default() += 1;
        }
        self.failures.clear();
        true
    }

    /// `message` is settled and will not be seen again.
    pub fn forget(&mut self, message: Uuid) {
        self.strikes.remove(&message);
    }

    /// The bot's limit has nothing to do with any one message. A wrong token would not either, but then no
    /// other message would close the breaker.
    fn strikes_against(&self, message: Uuid, fault: TelegramFault) -> u32 {
        if fault == TelegramFault::TooMany {
            return 0;
        }
        self.strikes.get(&message).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);
    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);

    #[test]
    fn one_failure_opens_the_breaker_and_one_answered_probe_closes_it() {
        let (mut breaker, now) = (TelegramBreaker::default(), Instant::now());
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert_eq!(breaker.failed(ONE, TelegramFault::TimedOut, WAIT, now), FaultScope::Channel);
        assert_eq!(breaker.permit(now), SendPermit::NotBefore(now + WAIT));
        assert_eq!((breaker.permit(now + WAIT), breaker.state()), (SendPermit::Probe, BreakerState::Open));
        breaker.probe(ONE);
        assert_eq!((breaker.permit(now + WAIT), breaker.state()), (SendPermit::AwaitProbe, BreakerState::HalfOpen));
        assert!(breaker.answered(ONE));
        assert_eq!((breaker.permit(now + WAIT), breaker.state()), (SendPermit::Any, BreakerState::Closed));
    }

    #[test]
    fn a_failed_probe_is_followed_by_another_after_the_same_wait() {
        let (mut breaker, now) = (TelegramBreaker::default(), Instant::now());
        breaker.failed(ONE, TelegramFault::ServerError, WAIT, now);
        let later = now + WAIT;
        breaker.probe(ONE);
        breaker.failed(ONE, TelegramFault::TimedOut, WAIT, later);
        assert_eq!(breaker.permit(later), SendPermit::NotBefore(later + WAIT));
        assert_eq!(breaker.fault(), Some(TelegramFault::TimedOut));
        assert_eq!((breaker.failures(ONE), breaker.failures(TWO)), (2, 0));
    }

    #[test]
    fn what_was_under_way_when_the_breaker_opened_neither_closes_nor_prolongs_it() {
        let (mut breaker, now) = (TelegramBreaker::default(), Instant::now());
        breaker.failed(ONE, TelegramFault::ServerError, WAIT, now);
        assert!(!breaker.answered(TWO));
        breaker.failed(TWO, TelegramFault::ServerError, WAIT, now + WAIT / 2);
        assert_eq!(breaker.permit(now), SendPermit::NotBefore(now + WAIT));
        breaker.failed(TWO, TelegramFault::TooMany, WAIT, now + WAIT / 2);
        assert_eq!(breaker.permit(now), SendPermit::NotBefore(now + WAIT + WAIT / 2));
    }

    #[test]
    fn a_probe_that_could_not_be_sent_is_no_probe() {
        let (mut breaker, now) = (TelegramBreaker::default(), Instant::now());
        breaker.failed(ONE, TelegramFault::ServerError, WAIT, now);
        breaker.probe(ONE);
        breaker.not_sent(ONE);
        assert_eq!(breaker.permit(now + WAIT), SendPermit::Probe);
    }

    /// ONE always fails while TWO always succeeds.
    fn prove_one_wrong(breaker: &mut TelegramBreaker, now: Instant) {
        assert_eq!(breaker.failed(ONE, TelegramFault::ServerError, WAIT, now), FaultScope::Channel);
        breaker.probe(TWO);
        assert!(breaker.answered(TWO));
    }

    #[test]
    fn a_message_that_alone_fails_again_and_again_is_blamed_itself() {
        let (mut breaker, now) = (TelegramBreaker::default(), Instant::now());
        prove_one_wrong(&mut breaker, now);
        prove_one_wrong(&mut breaker, now);
        for times in 1..4 {
            assert_eq!(breaker.failed(ONE, TelegramFault::ServerError, WAIT, now), FaultScope::Message { times });
            assert_eq!(breaker.permit(now), SendPermit::Any);
        }
        assert_eq!(breaker.failed(ONE, TelegramFault::WrongToken, WAIT, now), FaultScope::Message { times: 4 });
        assert_eq!(breaker.failed(ONE, TelegramFault::TooMany, WAIT, now), FaultScope::Channel);
    }

    #[test]
    fn no_message_is_blamed_while_telegram_is_down_for_all() {
        let (mut breaker, now) = (TelegramBreaker::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(breaker.failed(ONE, TelegramFault::TimedOut, WAIT, now), FaultScope::Channel);
            breaker.probe(ONE);
        }
        assert!(breaker.answered(ONE));
        assert_eq!(breaker.failed(ONE, TelegramFault::TimedOut, WAIT, now), FaultScope::Channel);
    }

    #[test]
    fn a_silence_that_another_process_was_asked_for_is_kept() {
        let (mut breaker, now) = (TelegramBreaker::default(), Instant::now());
        breaker.was_silenced(now + WAIT);
        assert_eq!(
            (breaker.permit(now), breaker.fault()),
            (SendPermit::NotBefore(now + WAIT), Some(TelegramFault::TooMany))
        );
        breaker.probe(ONE);
        assert!(breaker.answered(ONE));
        assert!(breaker.strikes.is_empty());
        breaker.failed(ONE, TelegramFault::TooMany, 2 * WAIT, now);
        breaker.was_silenced(now + WAIT);
        assert_eq!(breaker.permit(now), SendPermit::NotBefore(now + 2 * WAIT));
    }

    #[test]
    fn a_settled_message_leaves_nothing_behind() {
        let (mut breaker, now) = (TelegramBreaker::default(), Instant::now());
        prove_one_wrong(&mut breaker, now);
        breaker.forget(ONE);
        assert!(breaker.strikes.is_empty() && breaker.failures.is_empty());
    }
}
