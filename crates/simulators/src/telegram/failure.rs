//! The ways in which Telegram was seen to fail.

use std::time::Duration;

use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::reply::{Reply, Sending};

/// A failure that a test orders.
#[derive(Clone, Debug)]
pub enum Failure {
    /// 429 with `retry_after` in the body and the header.
    TooManyRequests {
        /// Seconds.
        retry_after: u64,
    },
    /// Any refusal in Telegram's shape, also 5xx. The message does not reach the chat.
    Refused {
        /// `error_code`, and the status.
        code: u16,
        /// `description`.
        description: String,
        /// `parameters`, where there are any.
        parameters: Option<Value>,
    },
    /// A page of HTML.
    Garbage {
        /// The status: 200, or 502 as a gateway in front of Telegram sends it.
        status: u16,
        /// Whether the message reached the chat all the same.
        delivered: bool,
    },
    /// The message reaches the chat, and half of the answer the sender.
    HalfAnswer,
    /// No answer for so long.
    Hang {
        /// How long. Then the true answer goes out, or the connection closes when nothing was delivered.
        delay: Duration,
        /// Whether the message reached the chat all the same.
        delivered: bool,
    },
    /// The connection closes without a byte.
    HangUp {
        /// Whether the message reached the chat all the same.
        delivered: bool,
    },
}

impl Failure {
    fn refused(code: u16, description: &str) -> Self {
        Self::Refused { code, description: description.to_owned(), parameters: None }
    }

    /// 403: the person blocked the bot.
    #[must_use]
    pub fn blocked() -> Self {
        Self::refused(403, "Forbidden: bot was blocked by the user")
    }

    /// 403: the person's account is gone.
    #[must_use]
    pub fn deactivated() -> Self {
        Self::refused(403, "Forbidden: user is deactivated")
    }

    /// 403: the bot was thrown out of the group.
    #[must_use]
    pub fn kicked() -> Self {
        Self::refused(403, "Forbidden: bot was kicked from the supergroup chat")
    }

    /// 403: the bot is not in the group.
    #[must_use]
    pub fn not_a_member() -> Self {
        Self::refused(403, "Forbidden: bot is not a member of the supergroup chat")
    }

    /// 400: no user with this id ever pressed Start.
    #[must_use]
    pub fn chat_not_found() -> Self {
        Self::refused(400, "Bad Request: chat not found")
    }

    /// 400: the text is not good HTML.
    #[must_use]
    pub fn cannot_parse() -> Self {
        Self::refused(400, "Bad Request: can't parse entities: Unsupported start tag \"p\" at byte offset 0")
    }

    /// 400: the group is now a supergroup with another id.
    #[must_use]
    pub fn migrated_to(chat_id: i64) -> Self {
        Self::Refused {
            code: 400,
            description: "Bad Request: group chat was upgraded to a supergroup chat".to_owned(),
            parameters: Some(json!({ "migrate_to_chat_id": chat_id })),
        }
    }

    /// 500.
    #[must_use]
    pub fn internal_error() -> Self {
        Self::refused(500, "Internal Server Error")
    }

    /// Whether the message reaches the chat.
    pub(super) fn delivers(&self) -> bool {
        match self {
            Self::TooManyRequests { .. } | Self::Refused { .. } => false,
            Self::HalfAnswer => true,
            Self::Garbage { delivered, .. } | Self::Hang { delivered, .. } | Self::HangUp { delivered } => *delivered,
        }
    }

    /// Whether the sender is told in Telegram's own shape what became of the message.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::TooManyRequests { .. } | Self::Refused { .. })
    }

    /// What goes out; `answer` is the true one of a message that was delivered.
    pub(super) fn inject_fault(self, answer: Option<Reply>) -> Reply {
        let truth = answer.is_some();
        let answer = answer.unwrap_or_else(|| Reply::empty(StatusCode::OK));
        match self {
            Self::TooManyRequests { retry_after } => too_many_requests(retry_after),
            Self::Refused { code, description, parameters } => refusal(code, &description, parameters),
            Self::Garbage { status, .. } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                Reply::html(status, "<html><head><title>Gateway</title></head><body>nginx</body></html>")
            }
            Self::HalfAnswer => answer.sent(Sending::Half),
            Self::Hang { delay, .. } if truth => answer.after(delay),
            Self::Hang { delay, .. } => answer.after(delay).sent(Sending::Nothing),
            Self::HangUp { .. } => answer.sent(Sending::Nothing),
        }
    }
}

/// A refusal in Telegram's shape.
pub(super) fn refusal(code: u16, description: &str, parameters: Option<Value>) -> Reply {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut body = json!({ "ok": false, "error_code": code, "description": description });
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    Reply::json(status, &body)
}

pub(super) fn too_many_requests(retry_after: u64) -> Reply {
    let description = format!("Too Many Requests: retry after {retry_after}");
    refusal(429, &description, Some(json!({ "retry_after": retry_after })))
        .with_header(header::RETRY_AFTER, retry_after)
}
