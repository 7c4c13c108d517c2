//! Telegram's limits, kept so that it need not remind us (`429 Too Many Requests`).
//!
//! Telegram names about one message a second to one chat with short bursts, 20 a minute to a group,
//! and about 30 a second in all. Each limit is a number of messages in any span of a given length.
//! We know when a call began and when it ended, not when Telegram counted it in between. So a call
//! counts from its beginning until the span after its *end* has passed: then no two countings can
//! be closer than our figures say, whatever the network does.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// A Telegram chat. Ids of groups, supergroups and channels are negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChatId(pub i64);

impl ChatId {
    /// Whether more than one person reads it.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0 < 0
    }
}

/// One message a second to one chat. Telegram lets short bursts pass, without saying how short: we
/// send none.
const CHAT: Limit = Limit { messages: 1, span: Duration::from_secs(1) };
/// No limit looks back further than this.
pub const LONGEST_SPAN: Duration = Duration::from_secs(60);
/// Chats in memory before those that have been quiet long enough are forgotten.
const CHATS_BEFORE_CLEANING: usize = 1024;

/// So many messages in any span of this length.
#[derive(Clone, Copy, Debug)]
struct Limit {
    messages: usize,
    span: Duration,
}

/// Which limit is in the way, and when to ask again. `None` as a time: when a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The limit of all messages together.
    AllChats(Option<Instant>),
    /// The limit of this chat alone.
    ThisChat(Option<Instant>),
}

/// What has been sent lately.
pub struct RateLimiter {
    overall: Option<Limit>,
    chat: Option<Limit>,
    group: Option<Limit>,
    all: Calls,
    chats: HashMap<ChatId, Calls>,
    clean_at: usize,
}

impl RateLimiter {
    /// Nothing sent yet. Zero lifts a limit: `per_second` is for all messages together,
    /// `group_per_minute` for each group, and without it a chat's one message a second is lifted too.
    #[must_use]
    pub fn new(per_second: u32, group_per_minute: u32) -> Self {
        let limit = |messages: u32, span| (messages > 0).then_some(Limit { messages: messages as usize, span });
        Self {
            overall: limit(per_second, Duration::from_secs(1)),
            chat: (group_per_minute > 0).then_some(CHAT),
            group: limit(group_per_minute, LONGEST_SPAN),
            all: Calls::default(),
            chats: HashMap::new(),
            clean_at: CHATS_BEFORE_CLEANING,
        }
    }

    /// Takes note of a call to `chat` that begins now, if the limits allow one.
    ///
    /// # Errors
    /// When and why to wait; then nothing was noted.
    pub fn begin(&mut self, chat: ChatId, now: Instant) -> Result<(), Wait> {
        self.clean(now);
        if let Some(limit) = self.overall {
            self.all.room(limit, now).map_err(Wait::AllChats)?;
        }
        let group = self.group.filter(|_| chat.is_group());
        let calls = self.chats.entry(chat).or_default();
        for limit in [self.chat, group].into_iter().flatten() {
            calls.room(limit, now).map_err(Wait::ThisChat)?;
        }
        calls.running += 1;
        self.all.running += 1;
        Ok(())
    }

    /// How many messages, whatever their chats, the limit of all together leaves now; `None` when
    /// there is no such limit.
    ///
    /// # Errors
    /// When to ask again, if it leaves none; `None` as a time: when a call ends.
    pub fn allowance(&self, now: Instant) -> Result<Option<usize>, Option<Instant>> {
        let Some(limit) = self.overall else { return Ok(None) };
        self.all.room(limit, now)?;
        Ok(Some(limit.messages - self.all.running - self.all.counted(limit, now)))
    }

    /// Takes note that a call to `chat` ended.
    pub fn end(&mut self, chat: ChatId, now: Instant) {
        self.all.end(now, self.overall.map_or(0, |limit| limit.messages));
        let kept = [self.chat, self.group].into_iter().flatten().map(|limit| limit.messages).max();
        self.chats.entry(chat).or_default().end(now, kept.unwrap_or(0));
    }

    /// Takes over what is known of calls, which another process may have made: where each went and
    /// when it ended, longest ended first. Calls that are running stay counted.
    pub fn take_over(&mut self, ended: impl IntoIterator<Item = (ChatId, Instant)>) {
        self.all.ended.clear();
        self.chats.values_mut().for_each(|calls| calls.ended.clear());
        for (chat, at) in ended {
            self.all.running += 1;
            self.chats.entry(chat).or_default().running += 1;
            self.end(chat, at);
        }
    }

    /// Forgets chats whose last call no longer counts.
    fn clean(&mut self, now: Instant) {
        if self.chats.len() < self.clean_at {
            return;
        }
        let longest = self.group.map_or(CHAT.span, |limit| limit.span.max(CHAT.span));
        self.chats.retain(|_, calls| {
            calls.running > 0 || calls.ended.back().is_some_and(|ended| now.duration_since(*ended) < longest)
        });
        self.clean_at = CHATS_BEFORE_CLEANING.max(self.chats.len() * 2);
    }
}

/// Calls under one limit.
#[derive(Default)]
struct Calls {
    running: usize,
    /// When the latest calls ended, oldest first.
    ended: VecDeque<Instant>,
}

impl Calls {
    /// Whether one more fits; else when it will.
    fn room(&self, limit: Limit, now: Instant) -> Result<(), Option<Instant>> {
        let counted = self.counted(limit, now);
        let excess = (self.running + counted + 1).saturating_sub(limit.messages);
        if excess == 0 {
            return Ok(());
        }
        // As many of the oldest that still count must stop counting as are too many now.
        let first = self.ended.len() - counted;
        Err(self.ended.get(first + excess - 1).map(|ended| *ended + limit.span))
    }

    /// How many of the calls that ended still count.
    fn counted(&self, limit: Limit, now: Instant) -> usize {
        self.ended.iter().filter(|ended| now.duration_since(**ended) < limit.span).count()
    }

    fn end(&mut self, now: Instant, kept: usize) {
        self.running = self.running.saturating_sub(1);
        self.ended.push_back(now);
        while self.ended.len() > kept {
            self.ended.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: ChatId = ChatId(7);
    const GROUP: ChatId = ChatId(-100_123);

    /// Sends as fast as the limits allow, each call taking `takes`; answers when each began.
    fn send(rate_limiter: &mut RateLimiter, chats: &[ChatId], takes: Duration) -> Vec<Duration> {
        let begun = Instant::now();
        let mut now = begun;
        let mut sent = Vec::new();
        for chat in chats {
            loop {
                match rate_limiter.begin(*chat, now) {
                    Ok(()) => break,
                    Err(Wait::AllChats(until) | Wait::ThisChat(until)) => now = until.expect("no call is running"),
                }
            }
            sent.push(now - begun);
            now += takes;
            rate_limiter.end(*chat, now);
        }
        sent
    }

    fn most_in(span: Duration, sent: &[Duration]) -> usize {
        sent.iter().map(|from| sent.iter().filter(|at| *at >= from && **at < *from + span).count()).max().unwrap_or(0)
    }

    #[test]
    fn a_chat_gets_one_in_any_second() {
        let sent = send(&mut RateLimiter::new(30, 20), &[ADA; 5], Duration::ZERO);
        assert_eq!(sent.iter().map(Duration::as_secs).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn calls_of_another_process_count() {
        let (mut rate_limiter, now) = (RateLimiter::new(30, 3), Instant::now() + LONGEST_SPAN);
        let ago = |seconds| now - Duration::from_secs(seconds);
        rate_limiter.begin(ADA, now).expect("room");
        rate_limiter.take_over([(GROUP, ago(59)), (GROUP, ago(30)), (GROUP, ago(10)), (ChatId(8), ago(0))]);
        assert_eq!(rate_limiter.begin(GROUP, now), Err(Wait::ThisChat(Some(ago(59) + LONGEST_SPAN))));
        assert_eq!(rate_limiter.begin(ChatId(8), now), Err(Wait::ThisChat(Some(now + Duration::from_secs(1)))));
        assert_eq!(rate_limiter.begin(ADA, now), Err(Wait::ThisChat(None)), "the call that is running");
        assert_eq!(rate_limiter.allowance(now), Ok(Some(28)));
    }

    #[test]
    fn a_group_gets_twenty_in_any_minute() {
        let sent = send(&mut RateLimiter::new(30, 20), &[GROUP; 70], Duration::from_millis(20));
        assert_eq!(most_in(Duration::from_secs(60), &sent), 20);
        assert_eq!(most_in(Duration::from_secs(1), &sent), 1);
    }

    #[test]
    fn all_chats_together_get_thirty_in_any_second() {
        let chats: Vec<_> = (1..=300).map(ChatId).collect();
        let sent = send(&mut RateLimiter::new(30, 20), &chats, Duration::from_millis(1));
        assert_eq!(most_in(Duration::from_secs(1), &sent), 30);
        assert!(sent[299] < Duration::from_secs(10), "{:?}", sent[299]);
    }

    #[test]
    fn every_limit_can_be_lifted() {
        let chats: Vec<_> = (1..=300).map(ChatId).collect();
        assert_eq!(send(&mut RateLimiter::new(0, 20), &chats, Duration::ZERO)[299], Duration::ZERO);
        for chat in [ADA, GROUP] {
            let sent = send(&mut RateLimiter::new(30, 0), &[chat; 30], Duration::ZERO);
            assert_eq!(most_in(Duration::from_secs(1), &sent), 30);
        }
    }

    #[test]
    fn a_call_that_is_still_running_counts() {
        let (mut rate_limiter, now) = (RateLimiter::new(1, 20), Instant::now());
        assert_eq!(rate_limiter.begin(ADA, now), Ok(()));
        let later = now + Duration::from_secs(9);
        assert_eq!(rate_limiter.begin(GROUP, later), Err(Wait::AllChats(None)));
        rate_limiter.end(ADA, later);
        assert_eq!(rate_limiter.begin(GROUP, later), Err(Wait::AllChats(Some(later + Duration::from_secs(1)))));
    }

    #[test]
    fn the_allowance_is_what_the_limit_of_all_leaves() {
        let (mut rate_limiter, now) = (RateLimiter::new(2, 20), Instant::now());
        assert_eq!(rate_limiter.allowance(now), Ok(Some(2)));
        rate_limiter.begin(ADA, now).expect("the first of two");
        assert_eq!(rate_limiter.allowance(now), Ok(Some(1)));
        rate_limiter.begin(GROUP, now).expect("the second of two");
        assert_eq!(rate_limiter.allowance(now), Err(None));
        rate_limiter.end(ADA, now);
        assert_eq!(rate_limiter.allowance(now), Err(Some(now + Duration::from_secs(1))));
        assert_eq!(RateLimiter::new(0, 0).allowance(now), Ok(None));
    }

    #[test]
    fn one_chat_in_the_way_does_not_hold_another() {
        let (mut rate_limiter, now) = (RateLimiter::new(30, 20), Instant::now());
        assert_eq!(rate_limiter.begin(ADA, now), Ok(()));
        assert_eq!(rate_limiter.begin(ADA, now), Err(Wait::ThisChat(None)));
        assert_eq!(rate_limiter.begin(ChatId(8), now), Ok(()));
    }

    #[test]
    fn quiet_chats_are_forgotten() {
        let (mut rate_limiter, now) = (RateLimiter::new(0, 20), Instant::now());
        let later = now + Duration::from_secs(61);
        for chat in 0..2000 {
            let now = if chat < 1024 { now } else { later };
            rate_limiter.begin(ChatId(chat), now).expect("no limit in the way");
            rate_limiter.end(ChatId(chat), now);
        }
        assert_eq!(rate_limiter.chats.len(), 2000 - 1024);
    }
}
