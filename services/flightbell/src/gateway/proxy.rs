use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header, uri::Authority},
    response::{IntoResponse, Response},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use shell::http::Problem;

/// The largest body that is passed on, in bytes: what the services accept.
const BODY_LIMIT: usize = 64 * 1024;
/// How long a caller may take to send a body.
const BODY_TIME: Duration = Duration::from_secs(15);
/// How long a service may take to answer: a little longer than it allows itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Headers that belong to one connection (RFC 9110, section 7.6.1) and are not passed on.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// The services behind the gateway: each owns the paths that begin with its name.
#[derive(Clone)]
pub struct Upstreams {
    services: Arc<[(String, Authority)]>,
    client: Client<HttpConnector, Body>,
}

impl Upstreams {
    /// Services by name and address.
    #[must_use]
    pub fn new(services: impl IntoIterator<Item = (String, Authority)>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Shorter than the services keep idle connections, so that none is reused as it closes.
            .pool_idle_timeout(Duration::from_secs(5))
            .build_http();
        Self { services: services.into_iter().collect(), client }
    }

    fn owner_of(&self, path: &str) -> Option<&(String, Authority)> {
        let first = path.split('/').nth(1)?;
        self.services.iter().find(|(name, _)| name == first)
    }
}

/// Passes a request on to the service that owns its path.
pub(super) async fn pass_on(upstreams: Upstreams, request: Request) -> Response {
    let Some((name, authority)) = upstreams.owner_of(request.uri().path()) else {
        return Problem::new(StatusCode::NOT_FOUND, "Not found").into_response();
    };
    let outgoing = match rewritten(authority, request).await {
        Ok(outgoing) => outgoing,
        Err(problem) => return problem.into_response(),
    };
    match tokio::time::timeout(ANSWER_LIMIT, upstreams.client.request(outgoing)).await {
        Ok(Ok(response)) => {
            let (mut parts, body) = response.into_parts();
            strip_connection_headers(&mut parts.headers);
            Response::from_parts(parts, Body::new(body))
        }
        Ok(Err(error)) => Problem::unavailable(name, &error).into_response(),
        Err(_) => Problem::unavailable(name, &"no answer in time").into_response(),
    }
}

async fn rewritten(authority: &Authority, request: Request) -> Result<Request, Problem> {
    let (mut parts, body) = request.into_parts();
    let body = whole(body).await?;
    let path = parts.uri.path_and_query().cloned();
    parts.uri = Uri::builder()
        .scheme("http")
        .authority(authority.clone())
        .path_and_query(path.map_or_else(|| "/".to_owned(), |path| path.to_string()))
        .build()
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "Malformed path"))?;
    // HTTP/2 ends here: behind the gateway each request is one of HTTP/1.1.
    parts.version = Version::HTTP_11;
    strip_connection_headers(&mut parts.headers);
    parts.headers.remove(header::HOST);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("https"));
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// The body, read to its end: a service is never held up by a caller who sends slowly.
async fn whole(body: Body) -> Result<Bytes, Problem> {
    let read = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, BODY_LIMIT)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 64 KiB"))
        }
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "The body could not be read")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time")),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    std::iter::from_fn(|| {
        let current = source?;
        source = current.source();
        Some(current)
    })
    .any(|error| error.is::<http_body_util::LengthLimitError>())
}

fn strip_connection_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.into_iter().chain(named) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_the_service_it_begins_with() {
        let address = Authority::from_static("127.0.0.1:5000");
        let upstreams = Upstreams::new([("user-manager".to_owned(), address)]);
        assert!(upstreams.owner_of("/user-manager/users").is_some());
        assert!(upstreams.owner_of("/user-manager").is_some());
        for path in ["/", "/user-managers/users", "/users", "//user-manager/users"] {
            assert!(upstreams.owner_of(path).is_none(), "{path}");
        }
    }

    #[test]
    fn what_belongs_to_one_connection_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close, X-Mine"));
        headers.insert("x-mine", HeaderValue::from_static("1"));
        headers.insert("x-request-id", HeaderValue::from_static("7"));
        strip_connection_headers(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
