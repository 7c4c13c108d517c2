//! What the gRPC edge counts.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use grpc_edge::{IdentifiedChannel, Served, channel, serve};
use runtime::{ServiceRuntime, clock::Clock, listen::Listen};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status, body::Body, server::NamedService, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_prost::ProstCodec;

/// How long anything may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(20);

type Codec = ProstCodec<HealthCheckResponse, HealthCheckRequest>;

/// A service that ends calls in several ways, written as one that is generated.
#[derive(Clone)]
struct Ends {
    /// Has a permit for each call that is worked on without an end.
    hanging: Arc<Semaphore>,
}

impl NamedService for Ends {
    const NAME: &'static str = "test.v1.Ends";
}

impl tower::Service<http::Request<Body>> for Ends {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let hanging = self.hanging.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/test.v1.Ends/Answer" => {
                    let answer = async |_: tonic::Request<_>| Ok(Response::new(HealthCheckResponse::default()));
                    tonic::server::Grpc::new(Codec::default()).unary(tower::service_fn(answer), request).await
                }
                "/test.v1.Ends/Refuse" => Status::failed_precondition("not now").into_http(),
                "/test.v1.Ends/Break" => panic!("a mistake"),
                "/test.v1.Ends/Hang" => {
                    hanging.add_permits(1);
                    std::future::pending().await
                }
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

struct Server {
    runtime: ServiceRuntime,
    served: Served,
    hanging: Arc<Semaphore>,
}

impl Server {
    async fn start() -> Self {
        let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
        let hanging = Arc::new(Semaphore::new(0));
        let service = Ends { hanging: hanging.clone() };
        let served = serve(&runtime, Listen::on_loopback().expect("a port"), service).await.expect("served");
        Self { runtime, served, hanging }
    }

    fn channel(&self) -> IdentifiedChannel {
        channel("test", Endpoint::from_shared(format!("http://{}", self.served.addr)).expect("an address"))
    }

    fn page(&self) -> String {
        runtime::metrics::render([&self.runtime.registry].into_iter()).expect("a page")
    }

    /// How many calls of `method` have ended with `code`.
    fn counted(&self, method: &str, code: &str) -> usize {
        let series = format!("grpc_requests_total{{code=\"{code}\",method=\"{method}\",service=\"test\"}} ");
        self.number(&series)
    }

    /// How many calls of `method` were timed.
    fn timed(&self, method: &str) -> usize {
        self.number(&format!("grpc_request_duration_seconds_count{{method=\"{method}\",service=\"test\"}} "))
    }

    fn number(&self, series: &str) -> usize {
        let page = self.page();
        page.lines().find_map(|line| line.strip_prefix(series)).map_or(0, |number| number.parse().expect("a number"))
    }
}

/// Calls `method`; says how the call ended.
async fn call(channel: IdentifiedChannel, method: &str) -> Code {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("connected");
    let path = format!("/{method}").parse().expect("a path");
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answer = client.unary(tonic::Request::new(HealthCheckRequest::default()), path, codec).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn a_call_is_counted_and_timed_by_its_method_and_counted_by_how_it_ended() {
    let server = Server::start().await;
    let ends = [
        ("test.v1.Ends/Answer", Code::Ok, "OK"),
        ("test.v1.Ends/Refuse", Code::FailedPrecondition, "FAILED_PRECONDITION"),
        ("test.v1.Ends/Break", Code::Internal, "INTERNAL"),
    ];
    for times in 1..=2 {
        for (method, code, name) in ends {
            assert_eq!(call(server.channel(), method).await, code, "{method}");
            assert_eq!(server.counted(method, name), times, "{method}: {}", server.page());
            assert_eq!(server.timed(method), times, "{method}: {}", server.page());
        }
    }
}

#[tokio::test]
async fn paths_that_are_no_methods_make_one_series() {
    let server = Server::start().await;
    for path in ["test.v1.Ends/Secret", "test.v1.Ends/Answer/Secret", "test.v1.Secret/Call", "secret"] {
        assert_eq!(call(server.channel(), path).await, Code::Unimplemented, "{path}");
    }
    assert_eq!((server.counted("unknown", "UNIMPLEMENTED"), server.timed("unknown")), (4, 4), "{}", server.page());
    assert!(!server.page().to_lowercase().contains("secret"), "{}", server.page());
}

#[tokio::test]
async fn calls_that_are_broken_off_refused_or_given_up_are_counted_as_such() {
    let server = Server::start().await;
    let method = "test.v1.Ends/Hang";
    let given_up = async {
        server.hanging.acquire().await.expect("a call that hangs").forget();
    };
    tokio::select! {
        code = call(server.channel(), method) => panic!("it ended: {code:?}"),
        () = given_up => {}
    }
    testkit::wait_for("a call that was given up", PATIENCE, async || server.counted(method, "CANCELLED") == 1).await;

    let channels: Vec<_> = (0..6).map(|_| server.channel()).collect();
    let ended = join_all((0..400).map(|number| call(channels[number % channels.len()].clone(), method))).await;
    let refused = ended.iter().filter(|code| **code == Code::Unavailable).count();
    assert!(refused > 0 && refused < 400, "{ended:?}");
    assert!(server.counted(method, "UNAVAILABLE") >= refused, "{}", server.page());
    // Whichever was first, our limit or the caller's.
    let too_late = async || server.counted(method, "DEADLINE_EXCEEDED") > 0;
    testkit::wait_for("calls that took too long", PATIENCE, too_late).await;
    assert_eq!(server.timed("unknown"), 0, "{}", server.page());
}

#[tokio::test]
async fn health_is_not_counted() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel());
    health.check(HealthCheckRequest::default()).await.expect("an answer");
    health.watch(HealthCheckRequest::default()).await.expect("an answer");
    assert_eq!(call(server.channel(), "test.v1.Ends/Answer").await, Code::Ok);
    let series = server.page().lines().filter(|line| line.starts_with("grpc_requests_total{")).count();
    assert_eq!(series, 1, "{}", server.page());
}
