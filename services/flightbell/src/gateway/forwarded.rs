//! What a service is told about the caller, and which paths it is never asked for.
//!
//! A service believes what the gateway says about a caller's address and host. So whatever a caller
//! says about these is removed, in every spelling that a service may read, and the gateway's own
//! words take its place.

use std::{borrow::Cow, net::SocketAddr};

use axum::{
    extract::ConnectInfo,
    http::{HeaderName, HeaderValue, header, request::Parts, uri::Authority},
};
use percent_encoding::percent_decode;

/// Headers by which proxies tell who called and what was asked for, beside all that begin with
/// `x-forwarded`.
const SAID_BY_PROXIES: [&str; 11] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
];

const HTTPS_PORT: u16 = 443;

/// How often a path may be percent-encoded over and over before it is refused.
const DEEPEST_ENCODING: usize = 4;

/// Replaces what the caller says about itself with what the gateway knows: `X-Forwarded-For` and
/// `X-Real-IP` (the address that connected), `X-Forwarded-Proto`, `X-Forwarded-Host` and
/// `X-Forwarded-Port`. Paths are passed on as they are, so there is no `X-Forwarded-Prefix`.
pub(super) fn forward(parts: &mut Parts) {
    let untrusted: Vec<HeaderName> = parts.headers.keys().filter(|name| is_said_by_proxies(name)).cloned().collect();
    for name in untrusted {
        parts.headers.remove(name);
    }
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            parts.headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-forwarded-proto", "https");
    if let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() {
        let address = peer.ip().to_canonical().to_string();
        set("x-forwarded-for", &address);
        set("x-real-ip", &address);
    }
    if let Some(asked) = asked_for(parts) {
        let port = asked.port_u16().unwrap_or(HTTPS_PORT).to_string();
        let insert =
            |name, value: &str| HeaderValue::from_str(value).map(|value| (HeaderName::from_static(name), value));
        let known = [insert("x-forwarded-host", asked.as_str()), insert("x-forwarded-port", &port)];
        parts.headers.extend(known.into_iter().flatten());
    }
}

/// Names with an underscore reach some programs as the same names with a hyphen.
fn is_said_by_proxies(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name.starts_with("x-forwarded") || SAID_BY_PROXIES.contains(&name.as_str())
}

/// The host that the caller named: in the request's own address, or in its Host header.
fn asked_for(parts: &Parts) -> Option<Authority> {
    let host = || parts.headers.get(header::HOST)?.to_str().ok()?.parse().ok();
    parts.uri.authority().cloned().or_else(host)
}

/// Whether every reader of this path reads the same one: it has no `.` or `..` in it, however often
/// that is percent-encoded, whichever slash is used and whatever parameters follow it, nor control
/// characters.
pub(super) fn is_unambiguous(path: &str) -> bool {
    let mut path = Cow::Borrowed(path.as_bytes());
    for _ in 0..DEEPEST_ENCODING {
        if path.iter().any(u8::is_ascii_control) || path.split(|byte| b"/\\".contains(byte)).any(is_dots) {
            return false;
        }
        let inner: Vec<u8> = percent_decode(&path).collect();
        if *inner == *path {
            return true;
        }
        path = Cow::Owned(inner);
    }
    false
}

fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    matches!(name, b"." | b"..")
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn forwarded(uri: &str, headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let peer = SocketAddr::from(([192, 0, 2, 7], 4711));
        let request =
            headers.iter().fold(Request::builder().uri(uri), |request, (name, value)| request.header(*name, *value));
        let (mut parts, ()) = request.extension(ConnectInfo(peer)).body(()).expect("a request").into_parts();
        forward(&mut parts);
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        let mut headers: Vec<_> = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        headers.retain(|(name, _)| name != "host");
        headers.sort();
        headers
    }

    #[test]
    fn what_a_caller_says_about_itself_is_replaced() {
        let lies = [
            ("host", "air.test:8443"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "203.0.113.10"),
            ("X_Forwarded_For", "203.0.113.9"),
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-prefix", "/evil"),
            ("x-forwarded-user", "root"),
            ("forwarded", "for=203.0.113.9;host=evil.test"),
            ("x-real-ip", "203.0.113.9"),
            ("x-original-url", "/metrics"),
            ("accept", "*/*"),
        ];
        let expected = [
            ("accept", "*/*"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "air.test:8443"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "192.0.2.7"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(forwarded("/users", &lies), expected);
        let named_in_the_address = forwarded("https://air.test/users", &[("host", "other.test")]);
        assert!(named_in_the_address.contains(&("x-forwarded-host".to_owned(), "air.test".to_owned())));
        assert!(named_in_the_address.contains(&("x-forwarded-port".to_owned(), "443".to_owned())));
    }

    #[test]
    fn a_path_that_leads_elsewhere_for_some_readers_is_known() {
        let plain = [
            "/user-manager/users",
            "/user-manager//users",
            "/user-manager",
            "/user-manager/users/ada%2Blovelace%2Fx@example.org",
            "/user-manager/users/a..b@example.org",
            "/user-manager/users/100%25@example.org",
            "/user-manager/users/...",
            "/user-manager/%",
            "/user-manager/%zz%+f",
        ];
        let ambiguous = [
            "/user-manager/..%2fmetrics",
            "/user-manager/../metrics",
            "/user-manager/%2e%2e/metrics",
            "/user-manager/%2E./data-collector/metrics",
            "/user-manager/x/%2e%2e%2f%2e%2e%2fmetrics",
            "/user-manager/%252e%252e/metrics",
            "/user-manager/%25252e%25252e/metrics",
            "/user-manager/%2525252525252e",
            "/user-manager/..;/metrics",
            "/user-manager/..\\metrics",
            "/user-manager/..%5cmetrics",
            "/user-manager/./metrics",
            "/user-manager/..",
            "/user-manager/%00/metrics",
            "/user-manager/a%0d%0ab",
        ];
        plain.iter().for_each(|path| assert!(is_unambiguous(path), "{path}"));
        ambiguous.iter().for_each(|path| assert!(!is_unambiguous(path), "{path}"));
    }
}
