//! The ways in which OpenSky was seen to fail.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header::LOCATION};

use crate::reply::{Reply, Sending};

pub(super) const REMAINING: HeaderName = HeaderName::from_static("x-rate-limit-remaining");
pub(super) const RETRY_AFTER: HeaderName = HeaderName::from_static("x-rate-limit-retry-after-seconds");

/// A failure that a test orders. None of them takes credits.
#[derive(Clone, Debug)]
pub enum Failure {
    /// A status with an empty body: 401, 404, 500, 502, 503.
    Status(u16),
    /// 429 with a body that is not JSON; without a number, without the header too.
    TooManyRequests {
        /// `X-Rate-Limit-Retry-After-Seconds`.
        retry_after_seconds: Option<u64>,
    },
    /// 307: ask at this address instead.
    SentElsewhere(String),
    /// A page of HTML with status 200.
    Html,
    /// Half of the true answer, then the connection closes.
    HalfBody,
    /// The true answer, so much later.
    Hang(Duration),
    /// The true answer, which says that so many credits are left.
    Remaining(u32),
    /// The connection closes without a byte.
    HangUp,
    /// Any body as JSON, with any status: missing fields or fields in wrong case, an array of one string.
    Body {
        /// The status.
        status: u16,
        /// The body as it goes out.
        body: String,
    },
}

impl Failure {
    /// The ten hours and three quarters that were seen in the wild.
    #[must_use]
    pub fn ten_hours() -> Self {
        Self::TooManyRequests { retry_after_seconds: Some(38_715) }
    }

    /// A body with status 200.
    #[must_use]
    pub fn body(body: impl Into<String>) -> Self {
        Self::Body { status: 200, body: body.into() }
    }

    /// Whether it spoils the true answer instead of replacing it.
    pub(super) fn needs_answer(&self) -> bool {
        matches!(self, Self::HalfBody | Self::Hang(_) | Self::Remaining(_))
    }

    /// What goes out; `answer` is the true one where it is needed.
    pub(super) fn inject_fault(self, answer: Reply) -> Reply {
        match self {
            Self::Status(code) => Reply::empty(status(code)),
            Self::TooManyRequests { retry_after_seconds } => {
                let reply = Reply::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
                match retry_after_seconds {
                    Some(seconds) => reply.with_header(RETRY_AFTER, seconds),
                    None => reply,
                }
            }
            Self::SentElsewhere(address) => {
                let reply = Reply::empty(StatusCode::TEMPORARY_REDIRECT);
                match HeaderValue::try_from(address) {
                    Ok(address) => reply.with_header(LOCATION, address),
                    Err(_) => reply,
                }
            }
            Self::Html => Reply::html(StatusCode::OK, "<!DOCTYPE html><html><body>OpenSky is resting</body></html>"),
            Self::HalfBody => answer.sent(Sending::Half),
            Self::Hang(delay) => answer.after(delay),
            Self::Remaining(credits) => answer.without_header(&REMAINING).with_header(REMAINING, credits),
            Self::HangUp => answer.sent(Sending::Nothing),
            Self::Body { status: code, body } => Reply::empty(status(code)).with_body("application/json", body),
        }
    }
}

/// The status with this number; one that does not exist becomes 500.
fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
