//! The gRPC edge: health by name, and an end that no caller can put off.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use grpc_edge::{DEADLINE, IdentifiedChannel, Served, ask, channel, name_in_readiness, principal, serve};
use runtime::{ServiceRuntime, clock::Clock, listen::Listen, readiness::Criticality, trace::RequestContext};
use testkit::Proxy;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, server::NamedService, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus::{NotServing, Serving},
    health_client::HealthClient,
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

async fn served() -> (ServiceRuntime, Served, IdentifiedChannel) {
    let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
    let served = serve(&runtime, Listen::on_loopback().expect("a port"), Silent).await.expect("served");
    let endpoint = Endpoint::from_shared(format!("http://{}", served.addr)).expect("an address");
    (runtime, served, channel("test", endpoint))
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_is_told_of_the_server_and_of_its_service() {
    let (_runtime, served, channel) = served().await;
    let mut health = HealthClient::new(channel);
    for expected in [NotServing, Serving] {
        for service in ["", Silent::NAME] {
            let answer = health.check(about(service)).await.expect("an answer").into_inner();
            assert_eq!(answer.status(), expected, "{service:?}");
        }
        served.set_serving().await;
    }
    let unknown = health.check(about("test.v1.Other")).await.expect_err("nobody knows it");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn another_service_counts_as_up_once_it_says_that_it_serves() {
    let (runtime, served, channel) = served().await;
    name_in_readiness(&runtime, "silent", channel);
    let named = async || runtime.readiness.report().await.parts.pop().expect("a part");
    let part = named().await;
    let why = part.detail.unwrap_or_default();
    assert!(!part.up && why.contains("cannot serve now"), "{why}");
    served.set_serving().await;
    // What a check answered holds for a second.
    testkit::wait_for("it to count as up", Duration::from_secs(20), async || named().await.up).await;
    runtime.tasks.stopping().cancel();
    runtime.tasks.join().await.expect("a clean end");
    testkit::wait_for("it to be missed", Duration::from_secs(20), async || !named().await.up).await;
}

#[tokio::test]
async fn somebody_who_watches_our_health_learns_of_the_stop_and_does_not_hold_it_up() {
    let (runtime, served, channel) = served().await;
    served.set_serving().await;
    let mut health = HealthClient::new(channel);
    let mut watched = health.watch(about("")).await.expect("an answer").into_inner();
    assert_eq!(watched.message().await.expect("a message").expect("a status").status(), Serving);
    let begun = Instant::now();
    runtime.tasks.stopping().cancel();
    let next = watched.message().await.expect("a message").expect("a status");
    assert_ne!(next.status(), Serving);
    runtime.tasks.join().await.expect("a clean end");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn health_follows_the_parts_without_which_the_service_is_not_ready() {
    let (runtime, served, channel) = served().await;
    let postgres = runtime.readiness.part("postgres", Criticality::Required, "not connected yet");
    let _optional = runtime.readiness.part("user-manager", Criticality::Optional, "away");
    postgres.up();
    served.set_serving().await;
    let health = HealthClient::new(channel);
    let is = async |expected| {
        let mut health = health.clone();
        let what = format!("{expected:?}");
        testkit::wait_for(&what, Duration::from_secs(20), async || {
            health.check(about(Silent::NAME)).await.expect("an answer").into_inner().status() == expected
        })
        .await;
    };
    is(Serving).await;
    postgres.down("refused");
    is(NotServing).await;
    postgres.up();
    is(Serving).await;
}

/// A service whose calls take for ever.
#[derive(Clone)]
struct Stuck;

impl NamedService for Stuck {
    const NAME: &'static str = "test.v1.Stuck";
}

impl tower::Service<http::Request<Body>> for Stuck {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Pending<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        std::future::pending()
    }
}

#[tokio::test]
async fn a_call_is_broken_off_in_time_and_one_too_many_is_refused_at_once() {
    let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
    let served = serve(&runtime, Listen::on_loopback().expect("a port"), Stuck).await.expect("served");
    let connect = || channel("test", Endpoint::from_shared(format!("http://{}", served.addr)).expect("an address"));
    let call = async |channel: IdentifiedChannel| {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.expect("connected");
        let path = http::uri::PathAndQuery::from_static("/test.v1.Stuck/Call");
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        client.unary(tonic::Request::new(about("")), path, codec).await.map(drop).expect_err("no answer")
    };
    let begun = Instant::now();
    let channels: Vec<_> = (0..6).map(|_| connect()).collect();
    let calls = (0..400).map(|number| call(channels[number % channels.len()].clone()));
    let mut health = HealthClient::new(connect());
    let (ended, health) = tokio::join!(futures::future::join_all(calls), health.check(about("")));
    health.expect("health is answered beside them");
    let codes: Vec<_> = ended.into_iter().map(|status| status.code()).collect();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let refused = codes.iter().filter(|code| **code == tonic::Code::Unavailable).count();
    assert!(refused > 0 && refused < 400, "{codes:?}");
}

/// A service that answers each call with the kind of its caller, as a status.
#[derive(Clone)]
struct Who;

impl NamedService for Who {
    const NAME: &'static str = "test.v1.Who";
}

impl tower::Service<http::Request<Body>> for Who {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let request = tonic::Request::from_parts(Default::default(), parts.extensions, ());
        std::future::ready(Ok(tonic::Status::aborted(format!("{:?}", principal(&request))).into_http()))
    }
}

#[tokio::test]
async fn a_handler_learns_which_service_calls() {
    let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
    let served = serve(&runtime, Listen::on_loopback().expect("a port"), Who).await.expect("served");
    let endpoint = || Endpoint::from_shared(format!("http://{}", served.addr)).expect("an address");
    for (caller, expected) in [("data-collector", "Service(data-collector)"), ("no name of ours", "anonymous")] {
        let mut client = tonic::client::Grpc::new(channel(caller, endpoint()));
        client.ready().await.expect("connected");
        let path = http::uri::PathAndQuery::from_static("/test.v1.Who/Call");
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let answer = client.unary(tonic::Request::new(about("")), path, codec).await.map(drop).expect_err("a status");
        assert_eq!((answer.code(), answer.message()), (tonic::Code::Aborted, expected));
    }
}

/// Asks for the health of `service`; `attempt` is told before each attempt which one it is, from 1.
async fn asked(
    channel: &IdentifiedChannel,
    service: &str,
    attempt: impl Fn(u32),
) -> Result<tonic::Response<HealthCheckResponse>, Status> {
    let mut made = 0;
    let health = HealthClient::new(channel.clone());
    ask(&health, about(service), &RequestContext::default(), |mut health, request| {
        made += 1;
        attempt(made);
        async move { health.check(request).await }
    })
    .await
}

#[tokio::test]
async fn a_call_whose_connection_broke_is_made_again_and_an_answer_never_is() {
    let (_runtime, served, _channel) = served().await;
    let proxy = Proxy::to(served.addr).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", proxy.addr())).expect("an address");
    let channel = channel("test", endpoint);
    asked(&channel, "", |_| ()).await.expect("an answer over a connection that stands");
    for round in 1..=10 {
        proxy.cut();
        let heal = |attempt| {
            if attempt == 2 {
                proxy.heal();
            }
        };
        asked(&channel, "", heal).await.unwrap_or_else(|status| panic!("round {round}: {status}"));
    }
    let once = |attempt| assert_eq!(attempt, 1, "an answer was asked for again");
    let unknown = asked(&channel, "test.v1.Other", once).await.expect_err("nobody knows it");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_call_to_nobody_ends_after_a_few_attempts_and_within_the_deadline() {
    let endpoint = Endpoint::from_shared(format!("http://{}", testkit::free_addr())).expect("an address");
    let (channel, made, begun) = (channel("test", endpoint), AtomicU32::new(0), Instant::now());
    let count = |attempt| made.store(attempt, Ordering::Relaxed);
    let status = asked(&channel, "", count).await.expect_err("nobody is there");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(made.load(Ordering::Relaxed), 6);
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
}
