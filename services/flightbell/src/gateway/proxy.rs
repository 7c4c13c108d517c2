use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{
        HeaderMap, HeaderName, StatusCode, Uri, Version, header,
        uri::{self, Authority, PathAndQuery, Scheme},
    },
    response::{IntoResponse, Response},
};
use http_edge::{Problem, read_body};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use runtime::{ServiceRuntime, error::chain_text, readiness::Criticality, tasks::Tasks, trace::RequestContext};

use super::{
    forwarded::{forward, is_unambiguous},
    retry::{Failure, Retries},
    websocket,
};
use crate::services::ServiceAddrs;

/// How long a service may take to take a connection. It is in the same network, and one that has vanished does not
/// answer at all: the next attempt must still come in time.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How long a connection that rests is kept: shorter than the services keep theirs, also while they stop as a lame duck
/// in a cluster, so that none is used as it closes.
const REST_LIMIT: Duration = Duration::from_secs(2);
/// How long a service may take to answer, over all attempts: a little longer than it allows itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Headers that belong to one connection (RFC 9110, section 7.6.1) and are not passed on.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// The services behind the gateway: each owns the paths that begin with its name.
#[derive(Clone)]
pub struct Upstreams {
    services: Arc<[Service]>,
    client: Client<HttpConnector, Body>,
    /// Makes a connection for each request. Those that another client keeps may all have broken at once.
    unpooled: Client<HttpConnector, Body>,
}

/// A service and where it answers HTTP.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) name: String,
    at: Authority,
}

impl Upstreams {
    /// Services by name and address.
    #[must_use]
    pub fn new(services: impl IntoIterator<Item = (String, Authority)>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(REST_LIMIT)
            .build(connector.clone());
        let unpooled = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { services: services.into_iter().map(|(name, at)| Service { name, at }).collect(), client, unpooled }
    }

    /// Services of this process, by name.
    ///
    /// # Errors
    /// When an address is none that a request can name.
    pub fn on_this_machine(services: ServiceAddrs) -> anyhow::Result<Self> {
        let authority = |(name, addr): (&str, SocketAddr)| {
            let authority = addr.to_string().parse().context("write a listener's address")?;
            Ok((name.to_owned(), authority))
        };
        Ok(Self::new(services.into_iter().map(authority).collect::<anyhow::Result<Vec<_>>>()?))
    }

    /// Every service.
    pub(super) fn services(&self) -> impl Iterator<Item = Service> + '_ {
        self.services.iter().cloned()
    }

    /// Has `/readyz` name each service that is away. The gateway itself stays ready: it still answers
    /// for the others.
    pub(super) fn watch(&self, runtime: &ServiceRuntime) {
        for service in self.services() {
            let client = self.client.clone();
            runtime.readiness.check(service.name.clone(), Criticality::Optional, move || {
                let (client, at) = (client.clone(), service.at.clone());
                async move {
                    let uri = uri(&at, PathAndQuery::from_static("/livez"))
                        .map_err(|_| "has an address that is none".to_owned())?;
                    let answer =
                        client.get(uri).await.map_err(|error| format!("does not answer: {}", chain_text(&error)))?;
                    let status = answer.status();
                    if status.is_success() { Ok(()) } else { Err(format!("answers {status}")) }
                }
            });
        }
    }
}

/// Passes a request on to the service that owns its path. One that asks for a WebSocket is given it where the service
/// agrees; `tasks` keep it then.
pub(super) async fn pass_on(
    upstreams: &Upstreams,
    service: &Service,
    (context, tasks): (&RequestContext, &Tasks),
    mut request: Request,
) -> Response {
    let caller = websocket::asked_for(&mut request);
    let mut outgoing = match rewritten(&service.at, context, request).await {
        Ok(outgoing) => outgoing,
        Err(problem) => return problem.into_response(),
    };
    let retries = Retries::of(outgoing.method(), outgoing.headers(), caller.is_some());
    if caller.is_some() {
        websocket::ask(outgoing.headers_mut());
    }
    match tokio::time::timeout(ANSWER_LIMIT, send(upstreams, service, outgoing, retries)).await {
        Ok(Ok(mut response)) => {
            strip_connection_headers(response.headers_mut());
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let Some(caller) = caller else {
                    return Problem::new(StatusCode::BAD_GATEWAY, "The service cannot be understood").into_response();
                };
                websocket::join(tasks, caller, hyper::upgrade::on(&mut response));
                websocket::ask(response.headers_mut());
            }
            response.map(Body::new)
        }
        Ok(Err(error)) => Problem::unavailable(&service.name, &chain_text(&error)).into_response(),
        Err(_) => Problem::unavailable(&service.name, &"no answer in time").into_response(),
    }
}

/// Sends a request, again as often as `retries` allow, until it is answered.
async fn send(
    upstreams: &Upstreams,
    service: &Service,
    request: Request<Bytes>,
    mut retries: Retries,
) -> Result<Response<Incoming>, legacy::Error> {
    let (parts, body) = request.into_parts();
    let mut client = &upstreams.client;
    loop {
        let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
        let error = match client.request(request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let failure = Failure::of(&error);
        let Some(wait) = retries.after(failure) else { return Err(error) };
        tracing::debug!("{} is asked again in {wait:?} ({failure:?}): {}", service.name, chain_text(&error));
        tokio::time::sleep(wait).await;
        client = &upstreams.unpooled;
    }
}

/// The request as the service gets it, read to its end: a service is never held up by a caller who
/// sends slowly.
async fn rewritten(at: &Authority, context: &RequestContext, request: Request) -> Result<Request<Bytes>, Problem> {
    let (mut parts, body) = request.into_parts();
    if !is_unambiguous(parts.uri.path()) {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "Malformed path"));
    }
    let body = read_body(body).await?;
    strip_connection_headers(&mut parts.headers);
    forward(&mut parts);
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    parts.uri = uri(at, path)?;
    // HTTP/2 ends here: behind the gateway each request is one of HTTP/1.1.
    parts.version = Version::HTTP_11;
    parts.headers.remove(header::HOST);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::EXPECT);
    let carried = [("x-request-id", &context.request_id), ("traceparent", &context.traceparent)];
    for (name, value) in carried {
        if let Some(value) = value.as_ref().and_then(|value| value.parse().ok()) {
            parts.headers.insert(HeaderName::from_static(name), value);
        }
    }
    // They belong to the request of the caller, and none of them is sent.
    parts.extensions.clear();
    Ok(Request::from_parts(parts, body))
}

fn uri(at: &Authority, path: PathAndQuery) -> Result<Uri, Problem> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(at.clone());
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "Malformed path"))
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
    use axum::http::HeaderValue;

    use super::*;

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
