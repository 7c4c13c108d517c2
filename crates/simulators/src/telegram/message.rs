//! Messages that came in: checked as Telegram checks them, and remembered.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::html::{self, Entity, Shown};

/// The longest text, in UTF-16 code units after marks are read.
const LONGEST: usize = 4096;

/// An attempt to send a message, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Counts every attempt from 1, in the order they came.
    pub order: u64,
    /// Into which chat.
    pub chat_id: i64,
    /// The text as it was sent.
    pub text: String,
    /// The text as a person sees it: marks read; empty when it was never read.
    pub shown: String,
    /// Which parts of `shown` are marked.
    pub entities: Vec<Entity>,
    /// `HTML`, or none for plain text.
    pub parse_mode: Option<String>,
    /// When it came, in real time.
    pub received_at: DateTime<Utc>,
    /// When it came, on the page's clock.
    pub clock_at: DateTime<Utc>,
    /// Its number in the chat, when it reached the chat, also where the sender was not told.
    pub message_id: Option<i64>,
    /// The status that was answered, also where the answer was then cut short or never sent.
    pub status: u16,
    /// Whether the sender was told the truth in one piece, and without delay.
    pub answered: bool,
}

impl Sent {
    /// Whether the message reached the chat.
    #[must_use]
    pub fn is_in_chat(&self) -> bool {
        self.message_id.is_some()
    }
}

/// The text as a person would see it.
///
/// # Errors
/// The description of a 400.
pub(super) fn check(text: &str, parse_mode: Option<&str>) -> Result<Shown, String> {
    let shown = match parse_mode.map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => Shown { text: text.to_owned(), entities: Vec::new() },
        Some("html") => html::parse(text).map_err(|problem| format!("Bad Request: can't parse entities: {problem}"))?,
        // Telegram knows Markdown too; Flightbell does not send it, so it is not read here.
        Some(_) => return Err("Bad Request: unsupported parse_mode".to_owned()),
    };
    if shown.text.trim().is_empty() {
        return Err("Bad Request: message text is empty".to_owned());
    }
    if shown.text.encode_utf16().count() > LONGEST {
        return Err("Bad Request: message is too long".to_owned());
    }
    Ok(shown)
}

/// A chat as Telegram describes it: the kind follows from the id.
pub(super) fn chat(id: i64, name: &str) -> Value {
    match id {
        1.. => json!({ "id": id, "type": "private", "first_name": name }),
        -1_000_000_000_000..=0 => json!({ "id": id, "type": "group", "title": name }),
        _ => json!({ "id": id, "type": "supergroup", "title": name }),
    }
}

/// The bot as Telegram describes it.
pub(super) fn bot() -> Value {
    json!({ "id": 1_000_000_001, "is_bot": true, "first_name": "Flightbell", "username": "flightbell_simulator_bot" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_1_to_4096_units_after_marks_are_read() {
        assert_eq!(check("", None).expect_err("empty"), "Bad Request: message text is empty");
        assert_eq!(check("<b> </b>", Some("HTML")).expect_err("empty"), "Bad Request: message text is empty");
        assert!(check(&"x".repeat(4096), None).is_ok());
        assert_eq!(check(&"x".repeat(4097), None).expect_err("long"), "Bad Request: message is too long");
        // One letter outside the basic plane is two units; marks and escapes are not counted.
        assert!(check(&"𝄞".repeat(2048), None).is_ok());
        assert!(check(&"𝄞".repeat(2049), None).is_err());
        assert!(check(&format!("<b>{}</b>", "&lt;".repeat(4096)), Some("html")).is_ok());
    }

    #[test]
    fn the_id_tells_what_kind_of_chat_it_is() {
        let kind = |id| chat(id, "x")["type"].clone();
        assert_eq!([7, -7, -1_001_234_567_890].map(kind), ["private", "group", "supergroup"]);
    }
}
