//! What a person was not told.

use chrono::{DateTime, Utc};

/// Why the last alert was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No chat was named.
    NoChat,
    /// Telegram does not find the chat.
    ChatNotFound,
    /// The person blocked the bot.
    Blocked,
    /// The person's account, or the group, is gone.
    Deactivated,
    /// The bot is not in the group.
    NotInChat,
    /// The bot may not write in the chat.
    NoRights,
    /// Telegram forbids it.
    Forbidden,
    /// Telegram refused the message itself.
    Refused,
    /// A newer notifier knows.
    Other,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::NoChat,
        Self::ChatNotFound,
        Self::Blocked,
        Self::Deactivated,
        Self::NotInChat,
        Self::NoRights,
        Self::Forbidden,
        Self::Refused,
        Self::Other,
    ];

    /// In words, as the person reads it and as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoChat => "no Telegram chat was named",
            Self::ChatNotFound => "Telegram does not find the chat: press Start in it",
            Self::Blocked => "the bot is blocked",
            Self::Deactivated => "the Telegram account or group no longer exists",
            Self::NotInChat => "the bot is not a member of the group",
            Self::NoRights => "the bot may not write in the chat",
            Self::Forbidden => "Telegram forbids the bot to write in the chat",
            Self::Refused => "Telegram refused the message",
            Self::Other => "Telegram did not take the message",
        }
    }
}

/// Alerts that ended without being sent and are not older than the notifier remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// So many, at least one.
    pub count: i64,
    /// When the last of them was given up.
    pub last_at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

/// What the notifier reports about one registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Rises with every change.
    pub version: i64,
    /// So many; 0 when the last was forgotten.
    pub count: i64,
    /// When the last of them was given up, and why; `None` exactly when there is none.
    pub last: Option<(DateTime<Utc>, Reason)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_words_of_its_own() {
        let mut words = Reason::ALL.map(Reason::as_str).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
        assert!(words.iter().all(|text| text.len() <= 60));
    }
}
