//! People. None of these types shows in debug output, which ends up in logs.

use std::{fmt, str::FromStr};

use events::EmailAddress;
use uuid::Uuid;

use super::{iban::Iban, tax_code::TaxCode, undelivered::Undelivered};

/// The longest first or last name, in characters.
pub const LONGEST_NAME: usize = 100;

/// One registration. A user who registers again has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserId(pub Uuid);

/// A Telegram chat: positive for a person, negative for a group, never 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChatId(i64);

/// A number that is no chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongChatId;

/// A user who registers.
pub struct NewUser {
    /// The address.
    pub email: EmailAddress,
    /// The first name.
    pub first_name: String,
    /// The last name.
    pub last_name: String,
    /// The tax code, if it was told.
    pub tax_code: Option<TaxCode>,
    /// The bank account, if it was told.
    pub iban: Option<Iban>,
}

/// What to do with something that may be cleared.
#[derive(Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// Leave it as it is.
    Keep,
    /// Forget it.
    Clear,
    /// Replace it.
    Set(T),
}

/// What is to be different about a user.
pub struct Changes {
    /// Another first name.
    pub first_name: Option<String>,
    /// Another last name.
    pub last_name: Option<String>,
    /// What to do with the tax code.
    pub tax_code: Change<TaxCode>,
    /// What to do with the bank account.
    pub iban: Change<Iban>,
}

/// A registered user, as stored.
pub struct User {
    /// This registration.
    pub id: UserId,
    /// The address.
    pub email: String,
    /// The first name.
    pub first_name: String,
    /// The last name.
    pub last_name: String,
    /// The tax code, if it was told.
    pub tax_code: Option<String>,
    /// The bank account, if it was told.
    pub iban: Option<String>,
    /// Where this person reads Telegram, if it was told.
    pub telegram_chat_id: Option<i64>,
    /// What the notifier could not tell this person, if there is any.
    pub undelivered: Option<Undelivered>,
}

impl ChatId {
    /// The chat with this number.
    ///
    /// # Errors
    /// When it is 0.
    pub const fn new(number: i64) -> Result<Self, WrongChatId> {
        if number == 0 { Err(WrongChatId) } else { Ok(Self(number)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl FromStr for ChatId {
    type Err = WrongChatId;

    fn from_str(text: &str) -> Result<Self, WrongChatId> {
        let text = text.trim();
        // Rust would read a leading plus as well.
        if text.starts_with('+') {
            return Err(WrongChatId);
        }
        text.parse().map_err(|_| WrongChatId).and_then(Self::new)
    }
}

impl<T> Change<T> {
    /// Whether something is to be done.
    #[must_use]
    pub const fn is_asked(&self) -> bool {
        !matches!(self, Self::Keep)
    }

    /// The new value, where there is one.
    #[must_use]
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }
}

impl fmt::Display for WrongChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a whole number of 64 bits other than 0, or a string of one")
    }
}

impl std::error::Error for WrongChatId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_groups_have_chats() {
        for (text, number) in [("42", 42), (" -1001234567890 ", -1_001_234_567_890), ("9223372036854775807", i64::MAX)]
        {
            assert_eq!(text.parse::<ChatId>().ok().map(ChatId::get), Some(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_chat_is_refused() {
        for text in ["", "0", "-0", "+7", "4 2", "1e3", "1.0", "0x10", "@ada", "9223372036854775808", "٣"] {
            assert!(text.parse::<ChatId>().is_err(), "{text}");
        }
    }
}
