//! What an answer of Telegram means for the message and for Telegram as a whole.

use std::time::Duration;

use serde_json::Value;

use super::{rate_limiter::ChatId, reach::Reason};

/// How long to wait after a 429 that does not say it.
const UNSAID_WAIT: Duration = Duration::from_secs(5);
/// The shortest wait, whatever is asked: to come back at once would be told off at once.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that is believed at a time. Telegram names minutes; were it to mean more, one call an
/// hour does no harm, while a day of silence because of one strange number would.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Ids of supergroups lie below this (-100 and the group's number).
const SUPERGROUPS: i64 = -1_000_000_000_000;

/// What became of one call of `sendMessage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendResult {
    /// Accepted. The id is absent only from an answer that says "ok" and nothing else.
    Delivered {
        /// Telegram's id of the message in its chat.
        message_id: Option<i64>,
    },
    /// Too many: of this chat's messages or of all, see
    /// [`RateLimitTracker`](super::rate_limit_scope::RateLimitTracker).
    TooMany {
        /// How long Telegram wants to be left alone.
        retry_after: Duration,
    },
    /// Telegram is out of order; nothing is said about the message.
    TelegramDown(TelegramFault),
    /// The chat cannot be reached now.
    ChatUnreachable(Reason),
    /// The group became a supergroup, under this id.
    Migrated(ChatId),
    /// The markup was not understood.
    MarkupRefused,
    /// This message, or this chat, was refused for another reason.
    Refused,
}

/// Why Telegram is out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TelegramFault {
    /// No connection: the request was not sent.
    Unreachable,
    /// The connection broke after the request was sent.
    Broken,
    /// No answer in time.
    TimedOut,
    /// A 5xx.
    ServerError,
    /// An answer that is not Telegram's, to a request that did not succeed.
    Unreadable,
    /// A 200 that cannot be read.
    UnreadableSuccess,
    /// More messages than the bot as a whole may send.
    TooMany,
    /// Telegram does not know the token, or what answers there is not Telegram.
    WrongToken,
}

impl TelegramFault {
    /// In words, for the log and `/readyz`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "cannot be reached",
            Self::Broken => "broke the connection",
            Self::TimedOut => "does not answer in time",
            Self::ServerError => "answers that it is out of order",
            Self::Unreadable | Self::UnreadableSuccess => "answers what cannot be read",
            Self::TooMany => "asks the bot as a whole to slow down",
            Self::WrongToken => "refuses the token (or TELEGRAM_API_URL is not Telegram's)",
        }
    }

    /// Whether the message may have been delivered all the same.
    #[must_use]
    pub const fn is_unclear(self) -> bool {
        matches!(self, Self::Broken | Self::TimedOut | Self::UnreadableSuccess)
    }
}

/// Reads an answer: `error_code` and `parameters` first, then the text, whose wording and case
/// change. `retry_after` is the header of that name in seconds, which speaks when the body does not.
#[must_use]
pub fn classify(status: u16, retry_after: Option<f64>, body: &[u8]) -> SendResult {
    // Field by field, so that one of a strange type does not hide what the others say.
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(ok) = answer["ok"].as_bool() else { return classify_unreadable(status, retry_after) };
    if ok {
        // An acceptance names what was accepted. One that does not, or comes with another status, proves nothing.
        let names_it = !matches!(answer["result"], Value::Null | Value::Bool(false));
        if names_it && (200..300).contains(&status) {
            return SendResult::Delivered { message_id: answer["result"]["message_id"].as_i64() };
        }
        return SendResult::TelegramDown(TelegramFault::UnreadableSuccess);
    }
    let (parameters, description) = (&answer["parameters"], answer["description"].as_str().unwrap_or_default());
    let code = answer["error_code"].as_u64().and_then(|code| u16::try_from(code).ok());
    match code.unwrap_or(status) {
        429 => too_many(number(&parameters["retry_after"]).or(retry_after)),
        401 | 404 => SendResult::TelegramDown(TelegramFault::WrongToken),
        500.. => SendResult::TelegramDown(TelegramFault::ServerError),
        403 => SendResult::ChatUnreachable(
            Reason::from_description(&description.to_lowercase()).unwrap_or(Reason::Forbidden),
        ),
        400 => classify_bad_request(&parameters["migrate_to_chat_id"], description),
        402..500 => SendResult::Refused,
        // Neither a success that says so nor a failure that names itself.
        _ if (200..300).contains(&status) => SendResult::TelegramDown(TelegramFault::UnreadableSuccess),
        _ => SendResult::TelegramDown(TelegramFault::Unreadable),
    }
}

/// A number that makes sense as a wait, also where it stands as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|seconds| *seconds >= 0.0)
}

fn classify_unreadable(status: u16, retry_after: Option<f64>) -> SendResult {
    match status {
        200..300 => SendResult::TelegramDown(TelegramFault::UnreadableSuccess),
        429 => too_many(retry_after),
        401 | 404 => SendResult::TelegramDown(TelegramFault::WrongToken),
        500.. => SendResult::TelegramDown(TelegramFault::ServerError),
        _ => SendResult::TelegramDown(TelegramFault::Unreadable),
    }
}

fn too_many(seconds: Option<f64>) -> SendResult {
    let asked = seconds.filter(|seconds| *seconds >= 0.0);
    // What no duration can hold is longer than any that is believed.
    let wait = asked.map_or(UNSAID_WAIT, |asked| Duration::try_from_secs_f64(asked).unwrap_or(LONGEST_WAIT));
    SendResult::TooMany { retry_after: wait.clamp(SHORTEST_WAIT, LONGEST_WAIT) }
}

fn classify_bad_request(moved_to: &Value, description: &str) -> SendResult {
    if let Some(id) = moved_to.as_i64().or_else(|| moved_to.as_str()?.trim().parse().ok()) {
        // Groups become supergroups and nothing else. Any other id could be a chat of other people.
        return if id < SUPERGROUPS { SendResult::Migrated(ChatId(id)) } else { SendResult::Refused };
    }
    let description = description.to_lowercase();
    if description.contains("can't parse entities") {
        return SendResult::MarkupRefused;
    }
    Reason::from_description(&description).map_or(SendResult::Refused, SendResult::ChatUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u16, description: &str, parameters: &str) -> SendResult {
        let body =
            format!(r#"{{"ok":false,"error_code":{code},"description":{description:?},"parameters":{parameters}}}"#);
        classify(code, None, body.as_bytes())
    }

    #[test]
    fn an_accepted_message_is_delivered() {
        let body = br#"{"ok":true,"result":{"message_id":42,"date":1,"chat":{"id":7,"type":"private"},"text":"x"}}"#;
        assert_eq!(classify(200, None, body), SendResult::Delivered { message_id: Some(42) });
        assert_eq!(classify(200, None, br#"{"ok":true,"result":{}}"#), SendResult::Delivered { message_id: None });
    }

    #[test]
    fn a_chat_that_cannot_be_reached_says_why_whatever_the_wording() {
        for (code, description, reason) in [
            (403, "Forbidden: bot was blocked by the user", Reason::Blocked),
            (403, "Forbidden: user is deactivated", Reason::Deactivated),
            (403, "Forbidden: bot was kicked from the group chat", Reason::NotInChat),
            (403, "Forbidden: bot was kicked from the supergroup chat", Reason::NotInChat),
            (403, "Forbidden: bot is not a member of the supergroup chat", Reason::NotInChat),
            (403, "Forbidden: the group chat was deleted", Reason::Deactivated),
            (403, "Forbidden: bot can't initiate conversation with a user", Reason::ChatNotFound),
            (403, "Forbidden: a reason that is not written yet", Reason::Forbidden),
            (400, "Bad Request: chat not found", Reason::ChatNotFound),
            (400, "BAD REQUEST: CHAT NOT FOUND", Reason::ChatNotFound),
            (400, "Bad Request: PEER_ID_INVALID", Reason::ChatNotFound),
            (400, "Bad Request: group is deactivated", Reason::Deactivated),
            (400, "Bad Request: user not found", Reason::ChatNotFound),
            (400, "Bad Request: not enough rights to send text messages to the chat", Reason::NoRights),
            (400, "Bad Request: have no rights to send a message", Reason::NoRights),
            (400, "Bad Request: need administrator rights in the channel chat", Reason::NoRights),
            (400, "Bad Request: CHAT_WRITE_FORBIDDEN", Reason::NoRights),
            (400, "Bad Request: TOPIC_CLOSED", Reason::NoRights),
        ] {
            assert_eq!(error(code, description, "{}"), SendResult::ChatUnreachable(reason), "{code} {description}");
        }
    }

    #[test]
    fn an_acceptance_that_names_nothing_or_contradicts_itself_proves_nothing() {
        for (status, body) in [
            (200, r#"{"ok":true}"#),
            (200, r#"{"ok":true,"result":null}"#),
            (200, r#"{"ok":true,"result":false}"#),
            (500, r#"{"ok":true,"result":{"message_id":1}}"#),
            (403, r#"{"ok":true,"result":{"message_id":1}}"#),
        ] {
            let send_result = classify(status, None, body.as_bytes());
            assert_eq!(send_result, SendResult::TelegramDown(TelegramFault::UnreadableSuccess), "{status} {body}");
        }
    }

    #[test]
    fn a_group_moves_to_a_supergroup_and_nowhere_else() {
        for id in ["0", "7", "-7", "-1000000000000", "9223372036854775807", "-99999999999999999999", "null", "true"] {
            let moved =
                error(400, "Bad Request: group chat was upgraded", &format!(r#"{{"migrate_to_chat_id":{id}}}"#));
            assert_eq!(moved, SendResult::Refused, "{id}");
        }
    }

    #[test]
    fn a_group_that_moved_says_where() {
        let text = "Bad Request: group chat was upgraded to a supergroup chat";
        let moved = error(400, text, r#"{"migrate_to_chat_id":-1001234567890}"#);
        assert_eq!(moved, SendResult::Migrated(ChatId(-1_001_234_567_890)));
        assert_eq!(error(400, text, "{}"), SendResult::Refused);
    }

    #[test]
    fn markup_that_is_not_understood_is_told_apart() {
        let text = "Bad Request: can't parse entities: Unsupported start tag \"x\" at byte offset 0";
        assert_eq!(error(400, text, "{}"), SendResult::MarkupRefused);
        assert_eq!(error(400, "Bad Request: Can't Parse Entities", "null"), SendResult::MarkupRefused);
    }

    #[test]
    fn other_refusals_are_the_messages_own() {
        for (code, description) in [
            (400, "Bad Request: message text is empty"),
            (400, "Bad Request: message is too long"),
            (409, "Conflict: terminated by other getUpdates request"),
            (413, "Request Entity Too Large"),
        ] {
            assert_eq!(error(code, description, "{}"), SendResult::Refused, "{code} {description}");
        }
    }

    #[test]
    fn too_many_says_how_long_in_the_body_the_header_or_not_at_all() {
        let after = |seconds| SendResult::TooMany { retry_after: Duration::from_secs(seconds) };
        assert_eq!(error(429, "Too Many Requests: retry after 17", r#"{"retry_after":17}"#), after(17));
        assert_eq!(classify(429, Some(9.0), br#"{"ok":false,"error_code":429}"#), after(9));
        assert_eq!(classify(429, Some(9.0), b"slow down"), after(9));
        assert_eq!(classify(429, None, b"slow down"), after(5));
        assert_eq!(error(429, "", r#"{"retry_after":99999999}"#), after(3600));
    }

    #[test]
    fn a_strange_wait_is_made_a_sensible_one() {
        for (asked, waited) in [
            ("0", 1.0),
            ("0.2", 1.0),
            ("2.5", 2.5),
            (r#""17""#, 17.0),
            ("1e30", 3600.0),
            ("123456789012345678901234567890", 3600.0),
            ("-3", 9.0),
            ("null", 9.0),
            (r#""soon""#, 9.0),
            ("[]", 9.0),
        ] {
            let body = format!(r#"{{"ok":false,"error_code":429,"parameters":{{"retry_after":{asked}}}}}"#);
            let send_result = classify(429, Some(9.0), body.as_bytes());
            assert_eq!(send_result, SendResult::TooMany { retry_after: Duration::from_secs_f64(waited) }, "{asked}");
        }
        let unsaid = SendResult::TooMany { retry_after: Duration::from_secs(5) };
        assert_eq!(classify(429, Some(-1.0), b""), unsaid);
        assert_eq!(classify(429, Some(f64::NAN), b""), unsaid);
    }

    #[test]
    fn a_field_of_a_strange_type_does_not_hide_the_others() {
        let body = br#"{"ok":false,"error_code":403,"description":7,"parameters":[],"result":"x"}"#;
        assert_eq!(classify(403, None, body), SendResult::ChatUnreachable(Reason::Forbidden));
        let body = br#"{"ok":false,"error_code":400,"parameters":{"migrate_to_chat_id":"-1001234567890"}}"#;
        assert_eq!(classify(400, None, body), SendResult::Migrated(ChatId(-1_001_234_567_890)));
    }

    #[test]
    fn the_code_in_the_body_counts_more_than_the_status() {
        let body = br#"{"ok":false,"error_code":403,"description":"Forbidden"}"#;
        assert_eq!(classify(200, None, body), SendResult::ChatUnreachable(Reason::Forbidden));
    }

    #[test]
    fn what_says_nothing_about_the_message_is_the_channels() {
        use TelegramFault as Fault;
        for (status, body, fault) in [
            (500, r#"{"ok":false,"error_code":500,"description":"Internal Server Error"}"#, Fault::ServerError),
            (502, "<html>Bad Gateway</html>", Fault::ServerError),
            (200, "<html>", Fault::UnreadableSuccess),
            (200, "", Fault::UnreadableSuccess),
            (200, r#"{"ok":false}"#, Fault::UnreadableSuccess),
            (200, r#"["x"]"#, Fault::UnreadableSuccess),
            (302, "", Fault::Unreadable),
            (400, "<html>", Fault::Unreadable),
            (403, "<html>blocked by the proxy</html>", Fault::Unreadable),
            (401, r#"{"ok":false,"error_code":401,"description":"Unauthorized"}"#, Fault::WrongToken),
            (404, r#"{"ok":false,"error_code":404,"description":"Not Found"}"#, Fault::WrongToken),
            (404, "no such page", Fault::WrongToken),
        ] {
            assert_eq!(classify(status, None, body.as_bytes()), SendResult::TelegramDown(fault), "{status} {body}");
        }
    }

    #[test]
    fn only_what_may_have_been_delivered_is_unclear() {
        use TelegramFault as Fault;
        assert!([Fault::Broken, Fault::TimedOut, Fault::UnreadableSuccess].iter().all(|fault| fault.is_unclear()));
        let clear = [Fault::Unreachable, Fault::ServerError, Fault::Unreadable, Fault::TooMany, Fault::WrongToken];
        assert!(!clear.iter().any(|fault| fault.is_unclear()));
    }
}
