//! Whether Telegram works at all, learnt from the messages themselves.
//!
//! While it does not, nothing is sent but one probe at a time, and no message pays for it: neither
//! its schedule nor its number of failures changes. Two dangers lie in that rule, and both end in
//! one message stopping everybody's. A message that Telegram always answers with 500 would be the
//! probe for ever: so the probe is the message that failed least. And it would close the channel
//! again whenever it is tried: so a message that closed the channel twice while another one opened
//! it at once is itself to blame from then on: it waits longer from time to time, and is never given up for it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::verdict::ChannelFault;

/// How often others must have proven a message wrong before it is blamed.
const PROOFS: u32 = 2;

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Anything.
    Open,
    /// One message, to see whether the channel works again.
    Probe,
    /// Nothing before this time.
    ClosedUntil(Instant),
    /// Nothing before the probe has been answered.
    Probing,
}

/// Who pays for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The channel: the message waits, and nothing is held against it.
    Channel,
    /// The message.
    Message {
        /// How often it was blamed, this time included.
        times: u32,
    },
}

/// The channel's state.
#[derive(Debug, Default)]
pub struct Channel {
    held: Option<Hold>,
    /// How often each message failed since the channel closed.
    failures: HashMap<Uuid, u32>,
    /// How often each message closed the channel that another message opened, or would have.
    proofs: HashMap<Uuid, u32>,
}

#[derive(Debug)]
struct Hold {
    fault: ChannelFault,
    /// Which message; `None` when another process learnt it.
    closed_by: Option<Uuid>,
    until: Instant,
    probe: Option<Uuid>,
}

impl Channel {
    /// What may be sent at `now`.
    #[must_use]
    pub fn gate(&self, now: Instant) -> Gate {
        match &self.held {
            None => Gate::Open,
            Some(Hold { probe: Some(_), .. }) => Gate::Probing,
            Some(hold) if now < hold.until => Gate::ClosedUntil(hold.until),
            Some(_) => Gate::Probe,
        }
    }

    /// Why the channel is closed, if it is.
    #[must_use]
    pub fn fault(&self) -> Option<ChannelFault> {
        self.held.as_ref().map(|hold| hold.fault)
    }

    /// How often `message` has failed since the channel closed: of several, the one with the fewest
    /// failures is the next probe.
    #[must_use]
    pub fn failures(&self, message: Uuid) -> u32 {
        self.failures.get(&message).copied().unwrap_or_default()
    }

    /// `message` is the probe.
    pub fn probe(&mut self, message: Uuid) {
        if let Some(hold) = &mut self.held {
            hold.probe = Some(message);
        }
    }

    /// `message` was not sent after all.
    pub fn not_sent(&mut self, message: Uuid) {
        if let Some(hold) = &mut self.held
            && hold.probe == Some(message)
        {
            hold.probe = None;
        }
    }

    /// Telegram asked another process to be silent until then.
    pub fn was_silenced(&mut self, until: Instant) {
        match &mut self.held {
            Some(hold) => hold.until = hold.until.max(until),
            None => self.held = Some(Hold { fault: ChannelFault::TooMany, closed_by: None, until, probe: None }),
        }
    }

    /// `message` met `fault`; the next probe may be sent after `wait`.
    pub fn failed(&mut self, message: Uuid, fault: ChannelFault, wait: Duration, now: Instant) -> Blame {
        let until = now + wait;
        let proofs = self.proofs_against(message, fault);
        match &mut self.held {
            None if proofs >= PROOFS => {
                self.proofs.insert(message, proofs.saturating_add(1));
                return Blame::Message { times: proofs - PROOFS + 1 };
            }
            None => self.held = Some(Hold { fault, closed_by: Some(message), until, probe: None }),
            Some(hold) if hold.probe == Some(message) => {
                *hold = Hold { fault, closed_by: hold.closed_by, until, probe: None };
            }
            // It was under way when the channel closed. A wait that Telegram named counts all the same.
            Some(hold) if fault == ChannelFault::TooMany => hold.until = hold.until.max(until),
            Some(_) => {}
        }
        *self.failures.entry(message).or_default() += 1;
        Blame::Channel
    }

    /// Telegram answered something about `message`, so the channel works. What was under way when
    /// the channel closed proves nothing about now; only the probe does. Answers whether the channel
    /// opened.
    pub fn answered(&mut self, message: Uuid) -> bool {
        if self.held.as_ref().is_none_or(|hold| hold.probe != Some(message)) {
            return false;
        }
        if let Some(closed_by) = self.held.take().and_then(|hold| hold.closed_by)
            && closed_by != message
        {
            *self.proofs.entry(closed_by).or_default() += 1;
        }
        self.failures.clear();
        true
    }

    /// `message` is settled and will not be seen again.
    pub fn forget(&mut self, message: Uuid) {
        self.proofs.remove(&message);
    }

    /// The bot's limit has nothing to do with any one message. A wrong token would not either, but then no
    /// other message would open the channel.
    fn proofs_against(&self, message: Uuid, fault: ChannelFault) -> u32 {
        if fault == ChannelFault::TooMany {
            return 0;
        }
        self.proofs.get(&message).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);
    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);

    #[test]
    fn one_failure_closes_the_channel_and_one_answered_probe_opens_it() {
        let (mut channel, now) = (Channel::default(), Instant::now());
        assert_eq!(channel.failed(ONE, ChannelFault::TimedOut, WAIT, now), Blame::Channel);
        assert_eq!(channel.gate(now), Gate::ClosedUntil(now + WAIT));
        assert_eq!(channel.gate(now + WAIT), Gate::Probe);
        channel.probe(ONE);
        assert_eq!(channel.gate(now + WAIT), Gate::Probing);
        assert!(channel.answered(ONE));
        assert_eq!(channel.gate(now + WAIT), Gate::Open);
    }

    #[test]
    fn a_failed_probe_is_followed_by_another_after_the_same_wait() {
        let (mut channel, now) = (Channel::default(), Instant::now());
        channel.failed(ONE, ChannelFault::ServerError, WAIT, now);
        let later = now + WAIT;
        channel.probe(ONE);
        channel.failed(ONE, ChannelFault::TimedOut, WAIT, later);
        assert_eq!(channel.gate(later), Gate::ClosedUntil(later + WAIT));
        assert_eq!(channel.fault(), Some(ChannelFault::TimedOut));
        assert_eq!((channel.failures(ONE), channel.failures(TWO)), (2, 0));
    }

    #[test]
    fn what_was_under_way_when_the_channel_closed_neither_opens_nor_prolongs_it() {
        let (mut channel, now) = (Channel::default(), Instant::now());
        channel.failed(ONE, ChannelFault::ServerError, WAIT, now);
        assert!(!channel.answered(TWO));
        channel.failed(TWO, ChannelFault::ServerError, WAIT, now + WAIT / 2);
        assert_eq!(channel.gate(now), Gate::ClosedUntil(now + WAIT));
        channel.failed(TWO, ChannelFault::TooMany, WAIT, now + WAIT / 2);
        assert_eq!(channel.gate(now), Gate::ClosedUntil(now + WAIT + WAIT / 2));
    }

    #[test]
    fn a_probe_that_could_not_be_sent_is_no_probe() {
        let (mut channel, now) = (Channel::default(), Instant::now());
        channel.failed(ONE, ChannelFault::ServerError, WAIT, now);
        channel.probe(ONE);
        channel.not_sent(ONE);
        assert_eq!(channel.gate(now + WAIT), Gate::Probe);
    }

    /// ONE always fails while TWO always succeeds.
    fn prove_one_wrong(channel: &mut Channel, now: Instant) {
        assert_eq!(channel.failed(ONE, ChannelFault::ServerError, WAIT, now), Blame::Channel);
        channel.probe(TWO);
        assert!(channel.answered(TWO));
    }

    #[test]
    fn a_message_that_alone_fails_again_and_again_is_blamed_itself() {
        let (mut channel, now) = (Channel::default(), Instant::now());
        prove_one_wrong(&mut channel, now);
        prove_one_wrong(&mut channel, now);
        for times in 1..4 {
            assert_eq!(channel.failed(ONE, ChannelFault::ServerError, WAIT, now), Blame::Message { times });
            assert_eq!(channel.gate(now), Gate::Open);
        }
        assert_eq!(channel.failed(ONE, ChannelFault::WrongToken, WAIT, now), Blame::Message { times: 4 });
        assert_eq!(channel.failed(ONE, ChannelFault::TooMany, WAIT, now), Blame::Channel);
    }

    #[test]
    fn nobody_is_blamed_while_the_channel_is_down_for_all() {
        let (mut channel, now) = (Channel::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(channel.failed(ONE, ChannelFault::TimedOut, WAIT, now), Blame::Channel);
            channel.probe(ONE);
        }
        assert!(channel.answered(ONE));
        assert_eq!(channel.failed(ONE, ChannelFault::TimedOut, WAIT, now), Blame::Channel);
    }

    #[test]
    fn a_silence_that_another_process_was_asked_for_is_kept() {
        let (mut channel, now) = (Channel::default(), Instant::now());
        channel.was_silenced(now + WAIT);
        assert_eq!((channel.gate(now), channel.fault()), (Gate::ClosedUntil(now + WAIT), Some(ChannelFault::TooMany)));
        channel.probe(ONE);
        assert!(channel.answered(ONE));
        assert!(channel.proofs.is_empty());
        channel.failed(ONE, ChannelFault::TooMany, 2 * WAIT, now);
        channel.was_silenced(now + WAIT);
        assert_eq!(channel.gate(now), Gate::ClosedUntil(now + 2 * WAIT));
    }

    #[test]
    fn a_settled_message_leaves_nothing_behind() {
        let (mut channel, now) = (Channel::default(), Instant::now());
        prove_one_wrong(&mut channel, now);
        channel.forget(ONE);
        assert!(channel.proofs.is_empty() && channel.failures.is_empty());
    }
}
