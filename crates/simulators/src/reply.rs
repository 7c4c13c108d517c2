//! An answer before it is sent, and the ways in which sending can go wrong.

use std::{io, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderName, HeaderValue, StatusCode, header};

/// Marks an answer that must never be sent: the connection is closed instead.
#[derive(Clone, Copy)]
pub(crate) struct HangUp;

/// How an answer goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    Whole,
    /// The first half of the body, then the connection closes.
    Half,
    /// Not a byte: the connection closes.
    Nothing,
}

/// An answer that is ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// How long nothing is sent.
    pub(crate) delay: Duration,
    pub(crate) sending: Sending,
}

impl Reply {
    /// Without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), delay: Duration::ZERO, sending: Sending::Whole }
    }

    pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::empty(status).with_body("text/plain;charset=UTF-8", text)
    }

    pub(crate) fn html(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::empty(status).with_body("text/html;charset=UTF-8", text)
    }

    pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::empty(status).with_body("application/json", body),
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, format!("the simulator is broken: {error}")),
        }
    }

    pub(crate) fn with_body(mut self, kind: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.with_header(header::CONTENT_TYPE, HeaderValue::from_static(kind))
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn without_header(mut self, name: &HeaderName) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn sent(mut self, sending: Sending) -> Self {
        self.sending = sending;
        self
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits as long as the answer is to be late, then hands it to the server.
    pub(crate) async fn send(self) -> Response {
        tokio::time::sleep(self.delay).await;
        let length = self.body.len();
        let body = match self.sending {
            Sending::Whole => Body::from(self.body),
            Sending::Half | Sending::Nothing => {
                let half = std::future::ready(Ok(self.body.slice(..length / 2)));
                let broken = async {
                    // A pause lets the server send the half that it has before the connection closes.
                    tokio::task::yield_now().await;
                    Err(io::Error::other("the answer is cut short on purpose"))
                };
                Body::from_stream(stream::once(half).chain(stream::once(broken)))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        match self.sending {
            Sending::Whole => {}
            Sending::Half => {
                response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
            }
            Sending::Nothing => {
                response.extensions_mut().insert(HangUp);
            }
        }
        response
    }
}
