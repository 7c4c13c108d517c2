//! The gRPC edge: health by name, and an end that nobody can put off.

use std::{
    convert::Infallible,
    net::SocketAddr,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use shell::{Shell, clock::Clock, grpc::serve, listen::Listen};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, server::NamedService, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus::Serving, health_client::HealthClient,
};

/// A service without methods.
#[derive(Clone)]
struct Silent;

impl NamedService for Silent {
    const NAME: &'static str = "test.v1.Silent";
}

impl tower::Service<http::Request<Body>> for Silent {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        std::future::ready(Ok(tonic::Status::unimplemented("it has no methods").into_http()))
    }
}

async fn served() -> (Shell, HealthClient<tonic::transport::Channel>) {
    let shell = Shell::new("test", CancellationToken::new(), Clock::system());
    let addr: SocketAddr = serve(&shell, Listen::on_loopback().expect("a port"), Silent).await.expect("served");
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
    (shell, HealthClient::new(endpoint.connect_lazy()))
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_is_told_of_the_server_and_of_its_service() {
    let (_shell, mut health) = served().await;
    for service in ["", Silent::NAME] {
        let answer = health.check(about(service)).await.expect("an answer").into_inner();
        assert_eq!(answer.status(), Serving, "{service:?}");
    }
    let unknown = health.check(about("test.v1.Other")).await.expect_err("nobody knows it");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn somebody_who_watches_our_health_learns_of_the_stop_and_does_not_hold_it_up() {
    let (shell, mut health) = served().await;
    let mut watched = health.watch(about("")).await.expect("an answer").into_inner();
    assert_eq!(watched.message().await.expect("a message").expect("a status").status(), Serving);
    let begun = Instant::now();
    shell.tasks.stopping().cancel();
    let next = watched.message().await.expect("a message").expect("a status");
    assert_ne!(next.status(), Serving);
    shell.tasks.join().await.expect("a clean end");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}
