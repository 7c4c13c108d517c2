//! What one attempt changes in the ledger.

use std::time::Duration;

use super::{rate_limiter::ChatId, reach::Reason, retry_schedule::Schedule, send_result::TelegramFault};

/// After so many attempts that only led to another way, there is no way.
const DETOURS: u32 = 5;

/// What an attempt came to, as it stands in the ledger and in `notifications_sent_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Telegram accepted the message.
    Sent,
    /// It is unknown whether the message was delivered; it will be repeated.
    Unclear,
    /// Telegram was out of order, and the message was not delivered.
    ChannelFailure,
    /// Too many messages to this chat.
    TooMany,
    /// The message or the chat was refused.
    Refused,
    /// The markup was not understood; it is repeated as plain text.
    PlainText,
    /// The group has another id; it is repeated there.
    Migrated,
    /// The chat cannot be reached now.
    ChatGone,
    /// The call was not made: the process had stood still for too long since the attempt was written.
    NotMade,
}

impl Outcome {
    /// Every outcome of an attempt.
    pub const ALL: [Self; 9] = [
        Self::Sent,
        Self::Unclear,
        Self::ChannelFailure,
        Self::TooMany,
        Self::Refused,
        Self::PlainText,
        Self::Migrated,
        Self::ChatGone,
        Self::NotMade,
    ];

    /// The name in SQL and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Unclear => "unclear",
            Self::ChannelFailure => "channel_failure",
            Self::TooMany => "too_many",
            Self::Refused => "refused",
            Self::PlainText => "plain_text",
            Self::Migrated => "migrated",
            Self::ChatGone => "chat_gone",
            Self::NotMade => "not_made",
        }
    }
}

/// How a message ended for good without being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unsent {
    /// Its schedule ran out.
    GivenUp,
    /// For a day there was no chat to send it to, or none that could be reached.
    Undeliverable,
    /// The person is no longer registered.
    Cancelled,
}

impl Unsent {
    /// Every such end.
    pub const ALL: [Self; 3] = [Self::GivenUp, Self::Undeliverable, Self::Cancelled];

    /// The name in SQL and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GivenUp => "given_up",
            Self::Undeliverable => "undeliverable",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What becomes of the message.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// It is done.
    Delivered {
        /// Telegram's id of it.
        message_id: Option<i64>,
    },
    /// It stays as it was, and its schedule too.
    Unchanged,
    /// It is tried again after this wait, which does not count against it.
    After(Duration),
    /// It failed once more and is tried again after this wait.
    Failed(Duration),
    /// It failed once more, for the last time.
    GivenUp,
    /// It may have arrived. It is sent again after this wait.
    Repeat(Duration),
    /// Its chat cannot be reached. It is kept; Telegram is asked again after this wait, or as soon as the
    /// chat is named again.
    Kept {
        /// Why.
        reason: Reason,
        /// How long to leave Telegram alone about it.
        wait: Duration,
    },
    /// It is tried at once as plain text.
    AsPlainText,
    /// It is tried at once in this chat, now and in future.
    Moved {
        /// The id that is no longer valid.
        from: ChatId,
        /// The id that is.
        to: ChatId,
    },
}

/// An attempt's outcome and consequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// What it came to.
    pub outcome: Outcome,
    /// What becomes of the message.
    pub next: Next,
}

/// What the ledger says about a message that is being tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Failures that were its own.
    pub failures: u32,
    /// Attempts that only led to another way.
    pub detours: u32,
    /// Whether it goes as plain text already.
    pub plain_text: bool,
    /// How often it may have arrived without an answer that said so.
    pub unclear: u32,
    /// How often in a row its chat could not be reached.
    pub refusals: u32,
}

/// An attempt, seen from the message, after it is known whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// Accepted.
    Delivered {
        /// Telegram's id of it.
        message_id: Option<i64>,
    },
    /// Telegram's failure.
    Channel(TelegramFault),
    /// A failure of Telegram's kind for which this message is to blame.
    MessageAtFault {
        /// What it met.
        fault: TelegramFault,
        /// How often it was blamed, this time included.
        times: u32,
    },
    /// Too many messages to this chat.
    ChatIsBusy(Duration),
    /// The chat cannot be reached now.
    ChatUnreachable(Reason),
    /// The call was not made, because it came too late.
    NotMade,
    /// The group moved.
    Moved {
        /// From this id.
        from: ChatId,
        /// To this one.
        to: ChatId,
    },
    /// The markup was not understood.
    MarkupRefused,
    /// Refused for another reason.
    Refused,
}

/// Decides what an attempt changes; `random` is from 0 to 1 and spreads the waits.
#[must_use]
pub fn decide(attempt: AttemptResult, history: History, schedule: Schedule, random: f64) -> Ending {
    let failed = |outcome| {
        let next = schedule.wait(history.failures + 1, random).map_or(Next::GivenUp, Next::Failed);
        Ending { outcome, next }
    };
    let may_detour = history.detours < DETOURS;
    let ending = |outcome, next| Ending { outcome, next };
    let repeat_wait = || schedule.repeat_wait(history.unclear.saturating_add(1), random);
    match attempt {
        AttemptResult::Delivered { message_id } => ending(Outcome::Sent, Next::Delivered { message_id }),
        AttemptResult::Channel(fault) if fault.is_unclear() => ending(Outcome::Unclear, Next::Repeat(repeat_wait())),
        AttemptResult::Channel(_) => ending(Outcome::ChannelFailure, Next::Unchanged),
        // Telegram never said no to this message, so it is tried less and less often, never given up, and
        // its schedule is left for the day on which it does.
        AttemptResult::MessageAtFault { fault, times } => {
            let wait = schedule.wait_without_end(times, random);
            if fault.is_unclear() {
                ending(Outcome::Unclear, Next::Repeat(wait.max(repeat_wait())))
            } else {
                ending(Outcome::ChannelFailure, Next::After(wait))
            }
        }
        AttemptResult::ChatIsBusy(wait) => ending(Outcome::TooMany, Next::After(wait)),
        AttemptResult::ChatUnreachable(reason) => {
            let wait = schedule.chat_wait(history.refusals.saturating_add(1), random);
            ending(Outcome::ChatGone, Next::Kept { reason, wait })
        }
        AttemptResult::NotMade => ending(Outcome::NotMade, Next::Unchanged),
        AttemptResult::Moved { from, to } if may_detour && from != to && from.is_group() => {
            ending(Outcome::Migrated, Next::Moved { from, to })
        }
        AttemptResult::MarkupRefused if may_detour && !history.plain_text => {
            ending(Outcome::PlainText, Next::AsPlainText)
        }
        AttemptResult::Moved { .. } | AttemptResult::MarkupRefused | AttemptResult::Refused => failed(Outcome::Refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: History = History { failures: 0, detours: 0, plain_text: false, unclear: 0, refusals: 0 };

    fn check(attempt: AttemptResult, history: History) -> (Outcome, Next) {
        let ending = decide(attempt, history, Schedule::default(), 0.0);
        (ending.outcome, ending.next)
    }

    #[test]
    fn a_channel_failure_changes_nothing_about_the_message_however_often_it_failed() {
        for history in [NEW, History { failures: 6, ..NEW }] {
            let unreachable = check(AttemptResult::Channel(TelegramFault::Unreachable), history);
            assert_eq!(unreachable, (Outcome::ChannelFailure, Next::Unchanged));
            assert_eq!(check(AttemptResult::NotMade, history), (Outcome::NotMade, Next::Unchanged));
        }
    }

    #[test]
    fn what_may_have_arrived_is_repeated_less_and_less_often() {
        for fault in [TelegramFault::TimedOut, TelegramFault::Broken, TelegramFault::UnreadableSuccess] {
            for (unclear, seconds) in [(0, 15), (1, 30), (5, 480), (100, 3600)] {
                let ended = check(AttemptResult::Channel(fault), History { unclear, ..NEW });
                assert_eq!(ended, (Outcome::Unclear, Next::Repeat(Duration::from_secs(seconds))));
            }
        }
    }

    #[test]
    fn a_chat_that_cannot_be_reached_keeps_its_messages() {
        for (refusals, minutes) in [(0, 1), (2, 15), (100, 60)] {
            let ended = check(AttemptResult::ChatUnreachable(Reason::Blocked), History { refusals, ..NEW });
            let wait = Duration::from_secs(minutes * 60);
            assert_eq!(ended, (Outcome::ChatGone, Next::Kept { reason: Reason::Blocked, wait }));
        }
    }

    #[test]
    fn a_refused_message_follows_its_schedule_to_the_end() {
        for (failures, next) in [
            (0, Next::Failed(Duration::from_secs(5))),
            (5, Next::Failed(Duration::from_secs(21_600))),
            (6, Next::GivenUp),
        ] {
            let history = History { failures, ..NEW };
            assert_eq!(check(AttemptResult::Refused, history), (Outcome::Refused, next));
        }
    }

    #[test]
    fn a_message_that_alone_meets_the_channels_failures_waits_longer_and_is_never_given_up() {
        for (times, wait) in [(1, 15), (6, 21_600), (7, 21_600), (60, 21_600)] {
            let blamed = AttemptResult::MessageAtFault { fault: TelegramFault::TimedOut, times };
            assert_eq!(check(blamed, NEW), (Outcome::Unclear, Next::Repeat(Duration::from_secs(wait))));
        }
    }

    #[test]
    fn a_busy_chat_waits_as_told_and_is_never_given_up() {
        let wait = Duration::from_secs(17);
        let history = History { failures: 6, ..NEW };
        assert_eq!(check(AttemptResult::ChatIsBusy(wait), history), (Outcome::TooMany, Next::After(wait)));
    }

    #[test]
    fn refused_markup_is_sent_once_as_plain_text() {
        assert_eq!(check(AttemptResult::MarkupRefused, NEW), (Outcome::PlainText, Next::AsPlainText));
        let again = History { plain_text: true, detours: 1, ..NEW };
        assert_eq!(
            check(AttemptResult::MarkupRefused, again),
            (Outcome::Refused, Next::Failed(Duration::from_secs(5)))
        );
    }

    #[test]
    fn a_group_is_followed_but_not_in_circles() {
        let (from, to) = (ChatId(-1), ChatId(-2));
        assert_eq!(check(AttemptResult::Moved { from, to }, NEW), (Outcome::Migrated, Next::Moved { from, to }));
        let tired = History { detours: 5, ..NEW };
        assert_eq!(check(AttemptResult::Moved { from, to }, tired).0, Outcome::Refused);
        assert_eq!(check(AttemptResult::Moved { from, to: from }, NEW).0, Outcome::Refused);
        // A person's chat never moves.
        assert_eq!(check(AttemptResult::Moved { from: ChatId(7), to }, NEW).0, Outcome::Refused);
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        names.extend(Unsent::ALL.iter().map(|end| end.as_str()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
