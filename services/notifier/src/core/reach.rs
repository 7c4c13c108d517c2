//! Why a user cannot be reached, and whether it is worth asking Telegram again.

use super::rate_limiter::ChatId;

/// Why alerts end unsent or wait for a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No chat was named.
    NoChat,
    /// Telegram does not find the chat: Start was never pressed in it.
    ChatNotFound,
    /// The person blocked the bot.
    Blocked,
    /// The person's account, or the group, is gone.
    Deactivated,
    /// The bot is not in the group.
    NotInChat,
    /// The bot may not write there.
    NoRights,
    /// Telegram forbids it without a reason that we know.
    Forbidden,
    /// Telegram refused the message itself, again and again.
    Refused,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::NoChat,
        Self::ChatNotFound,
        Self::Blocked,
        Self::Deactivated,
        Self::NotInChat,
        Self::NoRights,
        Self::Forbidden,
        Self::Refused,
    ];

    /// The name in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoChat => "no_chat",
            Self::ChatNotFound => "chat_not_found",
            Self::Blocked => "blocked",
            Self::Deactivated => "deactivated",
            Self::NotInChat => "not_in_chat",
            Self::NoRights => "no_rights",
            Self::Forbidden => "forbidden",
            Self::Refused => "refused",
        }
    }

    /// The reason of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// What Telegram's text says, in lower case; `None` when it says nothing about the chat.
    #[must_use]
    pub fn from_description(description: &str) -> Option<Self> {
        const SIGNS: [(&str, Reason); 22] = [
            ("blocked by the user", Reason::Blocked),
            ("user_is_blocked", Reason::Blocked),
            ("deactivated", Reason::Deactivated),
            ("group chat was deleted", Reason::Deactivated),
            ("kicked", Reason::NotInChat),
            ("not a member", Reason::NotInChat),
            ("channel_private", Reason::NotInChat),
            ("chat not found", Reason::ChatNotFound),
            ("user not found", Reason::ChatNotFound),
            ("peer_id_invalid", Reason::ChatNotFound),
            ("chat_id_invalid", Reason::ChatNotFound),
            ("can't initiate conversation", Reason::ChatNotFound),
            ("enough rights", Reason::NoRights),
            ("no rights", Reason::NoRights),
            ("have rights", Reason::NoRights),
            ("administrator rights", Reason::NoRights),
            ("chat_admin_required", Reason::NoRights),
            ("write_forbidden", Reason::NoRights),
            ("plain_forbidden", Reason::NoRights),
            ("chat_restricted", Reason::NoRights),
            ("user_restricted", Reason::NoRights),
            ("topic_closed", Reason::NoRights),
        ];
        SIGNS.iter().find(|(sign, _)| description.contains(sign)).map(|(_, reason)| *reason)
    }
}

/// A chat as a person named it. A person who names the same chat once more makes another link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatLink {
    /// The chat.
    pub chat: ChatId,
    /// Which naming it was.
    pub version: i64,
}

/// A chat that could not be reached the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As it was named then.
    pub link: ChatLink,
    /// How often in a row.
    pub times: u32,
    /// Whether it is too early to ask Telegram again.
    pub is_resting: bool,
}

/// Whether Telegram is to be left alone about this chat for now. A chat that was named anew since is
/// tried at once.
#[must_use]
pub fn rests(refusal: Option<Refusal>, named: ChatLink) -> bool {
    refusal.is_some_and(|refusal| refusal.is_resting && refusal.link == named)
}

/// How often in a row the chat could not be reached since it was named like this.
#[must_use]
pub fn times(refusal: Option<Refusal>, named: ChatLink) -> u32 {
    refusal.filter(|refusal| refusal.link == named).map_or(0, |refusal| refusal.times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_rests_until_it_is_named_again() {
        let link = ChatLink { chat: ChatId(7), version: 1 };
        let refusal = Some(Refusal { link, times: 3, is_resting: true });
        assert!(rests(refusal, link) && times(refusal, link) == 3);
        for anew in [ChatLink { version: 2, ..link }, ChatLink { chat: ChatId(8), ..link }] {
            assert!(!rests(refusal, anew) && times(refusal, anew) == 0);
        }
        assert!(!rests(Some(Refusal { link, times: 3, is_resting: false }), link));
        assert!(!rests(None, link));
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        for reason in Reason::ALL {
            assert_eq!(Reason::named(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::named("somersault"), None);
    }
}
