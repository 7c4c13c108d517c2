use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, Version, header, uri::Authority},
    response::{IntoResponse, Response},
};

use super::Problem;

/// The answer to a request that is refused.
pub(super) type Refusal = Box<Response>;

/// Refuses requests that two servers on their way could read differently: without a host in HTTP/1.1,
/// with two of them, or with one that is none; and methods that no edge of ours has.
pub(super) fn refuse_ambiguous(request: &Request) -> Result<(), Refusal> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed").into_response().into());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let is_missing = first.is_none() && request.version() == Version::HTTP_11;
    if is_missing || second.is_some() || !first.is_none_or(is_host) {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "One valid Host header is required").into_response().into());
    }
    Ok(())
}

/// A host may be left empty (RFC 9112, section 3.2).
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    text.is_empty() || (!text.contains('@') && text.parse::<Authority>().is_ok())
}
