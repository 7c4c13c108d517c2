//! The HTTPS entry: one address in front of the services, the same paths as the cluster's gateway.
//!
//! It passes requests on and answers; it knows no routes of the services, no people and no tokens.

mod forwarded;
mod presented;
mod proxy;
mod retry;
mod websocket;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::map_response_with_state,
    response::{IntoResponse, Response},
    routing::{any, get},
};
use http_edge::{ConnectionLimits, Problem, RouteTable, bounded, serve_connections_within, with_middleware};
use runtime::{
    Process, ServiceRuntime,
    clock::Clock,
    config::{Reader, RuntimeConfig, Vars},
    listen::log_bound,
    tasks::Tasks,
    trace::RequestContext,
};
use tokio::net::TcpListener;

use self::presented::Presented;
use crate::{bind_guard, certificates::self_signed, cli, paths};

pub use proxy::Upstreams;

/// How long an answer may take: longer than a body and the service behind may.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);

/// How many requests are passed on at once, in all and of one address: so many that no caller alone can
/// keep the others out, by sending bodies slowly for example.
const IN_FLIGHT: usize = 512;
const IN_FLIGHT_OF_AN_ADDRESS: usize = 256;

/// Says in answers where the data comes from, when that is not OpenSky itself.
pub const DATA_SOURCE: HeaderName = HeaderName::from_static("x-data-source");

/// Runs the gateway alone, until a signal.
///
/// # Errors
/// Settings that cannot be used, or an address that cannot be bound.
pub async fn run(args: cli::Gateway, vars: &dyn Vars) -> anyhow::Result<()> {
    bind_guard::refuse("--listen", args.listen, args.insecure_open)?;
    let certificates = match args.certificates {
        Some(folder) => folder,
        None => paths::data_dir(None, vars)?.join("tls"),
    };
    let mut reader = Reader::new(vars);
    let config = RuntimeConfig::read(&mut reader);
    let settings = reader.settings();
    reader.finish(|| Some(()))?;
    let mut process = Process::start(&config)?;
    settings.log("gateway", vars);
    let runtime = process.runtime("gateway", Clock::system());
    http_edge::admin::serve(&process, config.admin_addr).await?;
    let upstreams = Upstreams::new(args.upstreams);
    upstreams.watch(&runtime);
    let addr = serve(&runtime, args.listen, &certificates, upstreams, None).await?;
    if let Some(listen) = args.listen_http {
        serve_redirect(&runtime, listen, args.https_port.unwrap_or(addr.port())).await?;
    }
    process.started();
    announce(addr);
    process.run().await
}

/// Says on standard output where HTTPS is answered: the line that scripts wait for.
#[expect(clippy::print_stdout, reason = "the contract: a line of its own on standard output")]
pub fn announce(addr: SocketAddr) {
    println!("ready https://{addr}");
}

/// Serves HTTPS on `listen`, with a certificate that is kept in `certificates`, until the service
/// stops. Answers the address. Where the flights are not real ones, `source` says so in every answer's
/// header [`DATA_SOURCE`].
///
/// # Errors
/// When the address cannot be bound or the certificate cannot be read or made.
pub async fn serve(
    runtime: &ServiceRuntime,
    listen: SocketAddr,
    certificates: &Path,
    upstreams: Upstreams,
    source: Option<&str>,
) -> anyhow::Result<SocketAddr> {
    let pair = self_signed::load_or_make(certificates, listen)?;
    let tls = Presented::new(runtime, certificates, pair)?.server_config();
    let (listener, addr) = bind(listen, "HTTPS", "--listen").await?;
    log_bound(runtime.service, "HTTPS", addr);
    let mut app = with_middleware(
        runtime,
        routes(&upstreams, &runtime.tasks),
        ANSWER_LIMIT,
        RouteTable::of_a_proxy(runtime.service),
    )?;
    if let Some(source) = source {
        let source = HeaderValue::from_str(source).context("name the source in a header")?;
        app = app.layer(map_response_with_state(source, with_source));
    }
    let (limits, stopping) = (limits(runtime), runtime.tasks.stopping().clone());
    runtime.tasks.spawn("https", async move {
        serve_connections_within(limits, listener, Some(tls), app, stopping).await;
        Ok(())
    });
    Ok(addr)
}

fn limits(runtime: &ServiceRuntime) -> ConnectionLimits {
    ConnectionLimits { lame_duck: runtime.lame_duck, ..ConnectionLimits::of_the_entry() }
}

async fn with_source(State(source): State<HeaderValue>, mut response: Response) -> Response {
    response.headers_mut().insert(DATA_SOURCE, source);
    response
}

/// Answers every plain HTTP request on `listen` with a redirect to HTTPS on `https_port`, until the
/// runtime stops. Answers the address.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve_redirect(
    runtime: &ServiceRuntime,
    listen: SocketAddr,
    https_port: u16,
) -> anyhow::Result<SocketAddr> {
    let (listener, addr) = bind(listen, "HTTP", "--listen-http").await?;
    log_bound(runtime.service, "redirects to HTTPS", addr);
    let app = Router::new().fallback(any(async move |request: Request| redirect(&request, https_port)));
    let (limits, stopping) = (limits(runtime), runtime.tasks.stopping().clone());
    runtime.tasks.spawn("redirect", async move {
        serve_connections_within(limits, listener, None, app, stopping).await;
        Ok(())
    });
    Ok(addr)
}

/// A listener, and its address.
///
/// # Errors
/// When the address cannot be bound; `option` chooses another.
pub(crate) async fn bind(listen: SocketAddr, what: &str, option: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(listen).await;
    let listener =
        listener.with_context(|| format!("listen for {what} on {listen}: choose another address with {option}"))?;
    let addr = listener.local_addr().context("read the listener's address")?;
    Ok((listener, addr))
}

/// A route for each service, so that metrics know which one was asked, and for nothing else.
fn routes(upstreams: &Upstreams, tasks: &Tasks) -> Router {
    let ping = Router::new().route("/ping", get(async || axum::Json(serde_json::json!({"message": "pong"}))));
    let passed_on = upstreams.services().fold(Router::new(), |router, service| {
        let name = service.name.clone();
        // Shared, since a handler is copied for every request.
        let upstream = Arc::new((upstreams.clone(), service, tasks.clone()));
        let pass_on = any(async move |Extension(context): Extension<RequestContext>, request: Request| {
            let (upstreams, service, tasks) = &*upstream;
            proxy::pass_on(upstreams, service, (&context, tasks), request).await
        });
        router.route(&format!("/{name}"), pass_on.clone()).route(&format!("/{name}/{{*path}}"), pass_on)
    });
    bounded(passed_on, IN_FLIGHT, IN_FLIGHT_OF_AN_ADDRESS).merge(ping)
}

/// The same address under HTTPS. A request that names no host cannot be answered with one.
fn redirect(request: &Request, https_port: u16) -> Response {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none()).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.parse::<Uri>().ok().and_then(|uri| uri.host().map(ToOwned::to_owned));
    let Some(name) = name else {
        return Problem::new(StatusCode::BAD_REQUEST, "The Host header is missing or given twice").into_response();
    };
    let port = if https_port == 443 { String::new() } else { format!(":{https_port}") };
    // `OPTIONS *` asks about the server as a whole, which has no path.
    let path = request.uri().path_and_query().map(|path| path.as_str()).filter(|path| path.starts_with('/'));
    let path = path.unwrap_or("/");
    let location = format!("https://{name}{port}{path}");
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: &str, path: &str, port: u16) -> Option<String> {
        let request =
            Request::builder().uri(path).header("host", host).body(axum::body::Body::empty()).expect("a request");
        let response = redirect(&request, port);
        response.headers().get(header::LOCATION).map(|value| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn plain_http_is_sent_to_the_same_path_under_https() {
        assert_eq!(location("air.test:80", "/a?b=c", 443).as_deref(), Some("https://air.test/a?b=c"));
        assert_eq!(location("127.0.0.1:8080", "/", 8443).as_deref(), Some("https://127.0.0.1:8443/"));
        assert_eq!(location("[::1]:8080", "/", 8443).as_deref(), Some("https://[::1]:8443/"));
        assert_eq!(location("", "/", 8443), None);
    }
}
