//! Whether a request that a service did not answer is sent again.
//!
//! Behind an address there may be several replicas, and one that ends or has just died must not cost its callers a
//! request. What was never sent is sent again whatever it is. What may have been done already is repeated only where
//! that changes nothing: reads, and requests whose `Idempotency-Key` lets the service answer as it did before.

use std::{error::Error, time::Duration};

use axum::http::{HeaderMap, Method};
use hyper_util::client::legacy;
use runtime::backoff::DEAD_REPLICA;

/// How many further attempts to connect there are.
const MOST_CONNECTS: u32 = 6;

/// How long to wait before a request is repeated whose connection broke: its transaction, and with it the lock of its
/// key, is to be gone by then.
const REPEAT_WAIT: Duration = Duration::from_millis(100);

/// Why a request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no connection, so nothing was sent.
    NotConnected,
    /// The connection broke before an answer came: what was asked may have been done, or not.
    Broken,
    /// Anything else, such as an answer that cannot be understood. It would be the same again.
    Other,
}

impl Failure {
    pub(super) fn of(error: &legacy::Error) -> Self {
        if error.is_connect() {
            return Self::NotConnected;
        }
        match error.source().and_then(|source| source.downcast_ref::<hyper::Error>()) {
            Some(error) if !error.is_parse() && !error.is_user() => Self::Broken,
            _ => Self::Other,
        }
    }
}

/// What is still allowed to one request.
#[derive(Debug)]
pub(super) struct Retries {
    /// Failures to connect so far.
    not_connected: u32,
    may_be_repeated: bool,
}

impl Retries {
    /// Of a request that was not sent yet. One for a WebSocket is never repeated: its connection is the caller's.
    pub(super) fn of(method: &Method, headers: &HeaderMap, is_websocket: bool) -> Self {
        let is_safe = [Method::GET, Method::HEAD].contains(method) || headers.contains_key("idempotency-key");
        Self { not_connected: 0, may_be_repeated: is_safe && !is_websocket }
    }

    /// How long to wait before the request is sent again after `failure`; not at all when it is not.
    pub(super) fn after(&mut self, failure: Failure) -> Option<Duration> {
        match failure {
            Failure::NotConnected if self.not_connected < MOST_CONNECTS => {
                self.not_connected += 1;
                Some(DEAD_REPLICA.whole(self.not_connected - 1))
            }
            // Once: what breaks twice is not a replica that ends.
            Failure::Broken => std::mem::take(&mut self.may_be_repeated).then_some(REPEAT_WAIT),
            Failure::NotConnected | Failure::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn retries(method: &Method, key: Option<&'static str>, is_websocket: bool) -> Retries {
        let headers = key.map(|key| ("idempotency-key".parse().expect("a name"), HeaderValue::from_static(key)));
        Retries::of(method, &headers.into_iter().collect(), is_websocket)
    }

    #[test]
    fn what_was_never_sent_is_sent_again_six_times_whatever_it_is() {
        for (method, is_websocket) in [(Method::GET, false), (Method::POST, false), (Method::GET, true)] {
            let mut retries = retries(&method, None, is_websocket);
            let waits: Vec<_> = std::iter::from_fn(|| retries.after(Failure::NotConnected)).collect();
            assert_eq!(waits, [50, 100, 200, 400, 800, 800].map(Duration::from_millis), "{method}");
        }
    }

    #[test]
    fn what_may_have_been_done_is_repeated_once_where_that_changes_nothing() {
        let cases = [
            (Method::GET, None, false, true),
            (Method::HEAD, None, false, true),
            (Method::POST, Some("k"), false, true),
            (Method::DELETE, Some("k"), false, true),
            (Method::POST, None, false, false),
            (Method::PUT, None, false, false),
            (Method::DELETE, None, false, false),
            (Method::GET, None, true, false),
            (Method::GET, Some("k"), true, false),
        ];
        for (method, key, is_websocket, is_repeated) in cases {
            let mut retries = retries(&method, key, is_websocket);
            let first = retries.after(Failure::Broken);
            assert_eq!(first, is_repeated.then_some(REPEAT_WAIT), "{method} {key:?} {is_websocket}");
            assert_eq!(retries.after(Failure::Broken), None, "never twice");
        }
    }

    #[test]
    fn a_repeat_that_finds_no_connection_still_has_its_attempts_to_connect() {
        let mut retries = retries(&Method::GET, None, false);
        assert_eq!(retries.after(Failure::NotConnected), Some(Duration::from_millis(50)));
        assert_eq!(retries.after(Failure::Broken), Some(REPEAT_WAIT));
        assert_eq!(retries.after(Failure::NotConnected), Some(Duration::from_millis(100)));
        assert_eq!(retries.after(Failure::Broken), None);
    }

    #[test]
    fn an_answer_that_cannot_be_understood_is_not_asked_for_again() {
        assert_eq!(retries(&Method::GET, Some("k"), false).after(Failure::Other), None);
    }
}
