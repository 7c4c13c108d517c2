use std::time::Duration;

use super::wire::Unreadable;

/// Why a question to OpenSky has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing came back in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection could not be made, or broke.
    #[error("no connection")]
    Unreachable(#[source] reqwest::Error),
    /// A status that is no answer: 5xx, or one that the interface does not know.
    #[error("status {0}")]
    Status(u16),
    /// The question was wrong (400): our mistake.
    #[error("the question was refused as wrong (400)")]
    BadRequest,
    /// Too many requests (429).
    #[error("too many requests")]
    TooManyRequests {
        /// For how many seconds to stay silent, where it says so.
        seconds: Option<u64>,
    },
    /// Still 401 with a fresh token.
    #[error("not authorised, even with a fresh token")]
    Unauthorized,
    /// A body that is not what it should be: HTML, half of one, or with fields missing.
    #[error("the body cannot be read")]
    Unreadable(#[source] Unreadable),
    /// The sign-in failed.
    #[error("sign-in failed")]
    OAuthClient(#[source] Box<CallError>),
    /// A snapshot of another time than now: the source is late, or our clock is wrong.
    #[error("the snapshot is {seconds} s away from our clock")]
    NotOfNow {
        /// How far it is from our clock: above zero when it is older.
        seconds: i64,
    },
    /// A list that answers another question.
    #[error("the answer is about another airport or another day")]
    AnotherQuestion,
    /// Next to nothing, where there was much before: believed when it is said twice.
    #[error("next to nothing there, where there was much before: asked once more")]
    Doubtful,
    /// The breaker is open: not asked.
    #[error("not asked: the last calls failed")]
    BreakerOpen,
}

impl CallError {
    /// Whether it says something about OpenSky's health, and so counts towards opening a breaker.
    #[must_use]
    pub fn counts(&self) -> bool {
        match self {
            Self::TimedOut(_)
            | Self::Unreachable(_)
            | Self::Status(_)
            | Self::Unreadable(_)
            | Self::Unauthorized
            | Self::OAuthClient(_) => true,
            Self::BadRequest
            | Self::TooManyRequests { .. }
            | Self::NotOfNow { .. }
            | Self::AnotherQuestion
            | Self::Doubtful
            | Self::BreakerOpen => false,
        }
    }

    /// Whether the question may have reached OpenSky and cost credits.
    #[must_use]
    pub fn may_have_cost(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Status(_) | Self::Unreadable(_))
    }

    /// Whether nothing was asked, neither this nor a sign-in for it: a breaker is open.
    #[must_use]
    pub fn is_unasked(&self) -> bool {
        match self {
            Self::BreakerOpen => true,
            Self::OAuthClient(error) => error.is_unasked(),
            _ => false,
        }
    }

    /// The label it has in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TimedOut(_) => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Status(status) => match status {
                500 => "500",
                502 => "502",
                503 => "503",
                504 => "504",
                403 => "403",
                _ => "other",
            },
            Self::BadRequest => "400",
            Self::TooManyRequests { .. } => "429",
            Self::Unauthorized => "401",
            Self::Unreadable(_) => "unreadable",
            Self::OAuthClient(_) => "sign_in_failed",
            Self::NotOfNow { .. } => "not_of_now",
            Self::AnotherQuestion => "another_question",
            Self::Doubtful => "doubtful",
            Self::BreakerOpen => "breaker_open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_speaks_of_health_counts() {
        let limit = Duration::from_secs(15);
        for error in [CallError::TimedOut(limit), CallError::Status(502), CallError::Unauthorized] {
            assert!(error.counts(), "{error}");
        }
        for error in [CallError::BadRequest, CallError::TooManyRequests { seconds: None }, CallError::BreakerOpen] {
            assert!(!error.counts(), "{error}");
        }
    }

    #[test]
    fn behind_an_open_breaker_nothing_is_asked() {
        assert!(
            CallError::BreakerOpen.is_unasked()
                && CallError::OAuthClient(Box::new(CallError::BreakerOpen)).is_unasked()
        );
        assert!(!CallError::OAuthClient(Box::new(CallError::Status(401))).is_unasked());
    }
}
