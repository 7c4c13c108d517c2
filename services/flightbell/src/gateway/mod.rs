//! The HTTPS entry: one address in front of the services, the same paths as the cluster's gateway.
//!
//! It passes requests on and answers; it knows no routes of the services, no people and no tokens.

mod certificate;
mod proxy;

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::Request,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use shell::{
    Process, Shell,
    clock::Clock,
    config::{Reader, ShellConfig, Vars},
    http::Problem,
};

use crate::{cli, folder, strangers};

pub use proxy::Upstreams;

/// How long open connections may take to finish once the gateway stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Runs the gateway alone, until a signal.
///
/// # Errors
/// Settings that cannot be used, or an address that cannot be bound.
pub async fn run(args: cli::Gateway, vars: &dyn Vars) -> anyhow::Result<()> {
    strangers::refuse("--listen", args.listen, args.insecure_open)?;
    let certificates = match args.certificates {
        Some(folder) => folder,
        None => folder::data_dir(None, vars)?.join("tls"),
    };
    let mut reader = Reader::new(vars);
    let config = ShellConfig::read(&mut reader);
    reader.finish(|| Some(()))?;
    let mut process = Process::start(&config)?;
    let shell = process.shell("gateway", Clock::system());
    process.serve_admin(config.admin_addr).await?;
    let services = [("user-manager", args.user_manager), ("data-collector", args.data_collector)];
    let upstreams = Upstreams::new(services.map(|(name, at)| (name.to_owned(), at)));
    let addr = serve(&shell, args.listen, &certificates, upstreams).await?;
    if let Some(listen) = args.listen_http {
        serve_redirect(&shell, listen, addr.port())?;
    }
    announce(addr);
    process.run().await
}

/// Says on standard output where HTTPS is answered: the line that scripts wait for.
#[expect(clippy::print_stdout, reason = "the contract: a line of its own on standard output")]
pub fn announce(addr: SocketAddr) {
    println!("ready https://{addr}");
}

/// Serves HTTPS on `listen`, with a certificate that is kept in `certificates`, until the shell
/// stops. Answers the address.
///
/// # Errors
/// When the address cannot be bound or the certificate cannot be read or made.
pub async fn serve(
    shell: &Shell,
    listen: SocketAddr,
    certificates: &Path,
    upstreams: Upstreams,
) -> anyhow::Result<SocketAddr> {
    let pair = certificate::load_or_make(certificates, listen)?;
    let tls = RustlsConfig::from_pem(pair.certificate, pair.key).await.context("read the certificate")?;
    let (listener, addr) = bind(listen, "HTTPS")?;
    let server = axum_server::from_tcp_rustls(listener, tls).context("serve HTTPS")?;
    let handle = Handle::new();
    let serving = server.handle(handle.clone()).serve(routes(upstreams).into_make_service());
    run_until_stopped(shell, "https", handle, serving);
    Ok(addr)
}

/// Answers every plain HTTP request on `listen` with a redirect to HTTPS on `https_port`, until the
/// shell stops. Answers the address.
///
/// # Errors
/// When the address cannot be bound.
pub fn serve_redirect(shell: &Shell, listen: SocketAddr, https_port: u16) -> anyhow::Result<SocketAddr> {
    let (listener, addr) = bind(listen, "HTTP")?;
    let app = Router::new().fallback(any(move |request: Request| async move { redirect(&request, https_port) }));
    let handle = Handle::new();
    let server = axum_server::from_tcp(listener).context("serve HTTP")?;
    run_until_stopped(shell, "redirect", handle.clone(), server.handle(handle).serve(app.into_make_service()));
    Ok(addr)
}

/// A listener, and its address.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) fn bind(listen: SocketAddr, what: &str) -> anyhow::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(listen)
        .with_context(|| format!("listen for {what} on {listen}: choose another address with --listen"))?;
    listener.set_nonblocking(true).context("prepare the listener")?;
    let addr = listener.local_addr().context("read the listener's address")?;
    Ok((listener, addr))
}

fn run_until_stopped(
    shell: &Shell,
    name: &'static str,
    handle: Handle<SocketAddr>,
    serving: impl Future<Output = std::io::Result<()>> + Send + 'static,
) {
    let stopping = shell.tasks.stopping().clone();
    shell.tasks.spawn(name, async move {
        let drain = async {
            stopping.cancelled().await;
            handle.graceful_shutdown(Some(DRAIN_LIMIT));
            std::future::pending().await
        };
        tokio::select! {
            served = serving => served.with_context(|| format!("serve {name}")),
            () = drain => Ok(()),
        }
    });
}

fn routes(upstreams: Upstreams) -> Router {
    Router::new()
        .route("/ping", get(|| async { axum::Json(serde_json::json!({"message": "pong"})) }))
        .fallback(move |request: Request| proxy::pass_on(upstreams.clone(), request))
}

/// The same address under HTTPS. A request that names no host cannot be answered with one.
fn redirect(request: &Request, https_port: u16) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.parse::<Uri>().ok().and_then(|uri| uri.host().map(ToOwned::to_owned));
    let Some(name) = name else {
        return Problem::new(StatusCode::BAD_REQUEST, "The Host header is missing").into_response();
    };
    let port = if https_port == 443 { String::new() } else { format!(":{https_port}") };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
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
