//! WebSockets pass through: once the service has agreed, bytes go both ways until one side ends.
//!
//! No other protocol is passed on, since the gateway's checks hold for HTTP alone.

use std::{io, time::Duration};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use runtime::{error::chain_text, tasks::Tasks};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};

/// How long the other side may take to end, once one side has.
const CLOSING_LIMIT: Duration = Duration::from_secs(5);

/// The caller's side of a WebSocket that a request asks for (RFC 6455, section 4.1).
pub(super) fn asked_for(request: &mut Request) -> Option<OnUpgrade> {
    let is_asked = *request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && names(request.headers(), &header::CONNECTION, "upgrade")
        && names(request.headers(), &header::UPGRADE, "websocket");
    is_asked.then(|| hyper::upgrade::on(request))
}

/// Says in `headers` that the connection becomes a WebSocket.
pub(super) fn ask(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Passes bytes on between the `caller` and the `service`, until both have ended, or one a moment after the other.
pub(super) fn join(tasks: &Tasks, caller: OnUpgrade, service: OnUpgrade) {
    tasks.spawn_short("a WebSocket", async move {
        match tokio::try_join!(caller, service) {
            Ok((caller, service)) => {
                if let Err(error) = pass_on(TokioIo::new(caller), TokioIo::new(service)).await {
                    tracing::debug!("a WebSocket broke: {error}");
                }
            }
            Err(error) => tracing::debug!("a WebSocket did not begin: {}", chain_text(&error)),
        }
    });
}

async fn pass_on(caller: impl AsyncRead + AsyncWrite, service: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let ((mut from_caller, mut to_caller), (mut from_service, mut to_service)) = (split(caller), split(service));
    let mut asking = Box::pin(async {
        copy(&mut from_caller, &mut to_service).await?;
        to_service.shutdown().await
    });
    let mut answering = Box::pin(async {
        copy(&mut from_service, &mut to_caller).await?;
        to_caller.shutdown().await
    });
    let rest = |ended: Result<io::Result<()>, _>| ended.unwrap_or(Ok(()));
    tokio::select! {
        ended = &mut asking => ended.and(rest(tokio::time::timeout(CLOSING_LIMIT, answering).await)),
        ended = &mut answering => ended.and(rest(tokio::time::timeout(CLOSING_LIMIT, asking).await)),
    }
}

/// Whether a header that lists tokens has this one, in any case.
fn names(headers: &HeaderMap, header: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|named| named.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn is_asked(request: axum::http::request::Builder) -> bool {
        asked_for(&mut request.body(Body::empty()).expect("a request")).is_some()
    }

    #[test]
    fn only_a_websocket_over_http_1_is_passed_on() {
        let with = |connection: &str, upgrade: &str| {
            Request::builder().uri("/x").header("connection", connection).header("upgrade", upgrade)
        };
        assert!(is_asked(with("Upgrade", "websocket")));
        assert!(is_asked(with("keep-alive, upgrade", "WebSocket")));
        assert!(!is_asked(with("keep-alive", "websocket")));
        assert!(!is_asked(with("upgrade", "h2c")));
        assert!(!is_asked(with("upgrade", "websocket").method("POST")));
        assert!(!is_asked(with("upgrade", "websocket").version(Version::HTTP_2)));
        assert!(!is_asked(Request::builder().uri("/x")));
    }
}
