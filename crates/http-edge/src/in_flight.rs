use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hyper::body::{Frame, SizeHint};

use super::{
    Problem,
    connections::{TOO_MANY, caller},
};

/// How soon a caller who was one too many may come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// `routes` that work on at most `most` requests at once, of one address at most `most_of_an_address`.
/// One more is answered 503 with `Retry-After`, at once.
///
/// A request counts until its answer has been taken, so that answers which their callers do not read cannot fill the
/// memory; one without a known end, such as a stream of events, until it begins.
pub fn bounded(routes: Router, most: usize, most_of_an_address: usize) -> Router {
    let refuse = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY).retry_after(COME_AGAIN).into_response();
    bounded_or(refuse, routes, most, most_of_an_address)
}

/// As [`bounded`], with an answer of its own for one request too many.
pub fn bounded_or(refuse: fn() -> Response, routes: Router, most: usize, most_of_an_address: usize) -> Router {
    let in_flight = Arc::new(InFlight { most, most_of_an_address, refuse, counts: Mutex::default() });
    routes.layer(middleware::from_fn_with_state(in_flight, enter))
}

struct InFlight {
    most: usize,
    most_of_an_address: usize,
    refuse: fn() -> Response,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    of_address: HashMap<IpAddr, usize>,
}

/// One request that counts until this is dropped.
struct Counted {
    in_flight: Arc<InFlight>,
    address: Option<IpAddr>,
}

impl InFlight {
    fn count(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Counted> {
        let mut counts = self.counts();
        let of_address = address.and_then(|address| counts.of_address.get(&address)).copied().unwrap_or_default();
        if counts.all >= self.most || of_address >= self.most_of_an_address {
            return None;
        }
        counts.all += 1;
        if let Some(address) = address {
            counts.of_address.insert(address, of_address + 1);
        }
        Some(Counted { in_flight: self.clone(), address })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.in_flight.counts();
        counts.all -= 1;
        let Some(address) = self.address else { return };
        if let Some(count) = counts.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.of_address.remove(&address);
            }
        }
    }
}

async fn enter(State(in_flight): State<Arc<InFlight>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let Some(counted) = in_flight.count(peer.map(|ConnectInfo(peer)| caller(peer.ip()))) else {
        return (in_flight.refuse)();
    };
    let response = next.run(request).await;
    if response.body().size_hint().exact().is_none() {
        return response;
    }
    response.map(|body| Body::new(CountedBody { body, _counted: counted }))
}

/// A body that counts until it has been taken.
struct CountedBody {
    body: Body,
    _counted: Counted,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    fn from(address: [u8; 4]) -> Request {
        let request = Request::builder().uri("/").extension(ConnectInfo(SocketAddr::from((address, 1))));
        request.body(Body::empty()).expect("a request")
    }

    #[tokio::test]
    async fn one_request_too_many_is_told_to_come_again_until_an_answer_has_been_taken() {
        let routes = bounded(Router::new().route("/", get(async || "answer")), 3, 2);
        let ask = async |address| routes.clone().oneshot(from(address)).await.expect("an answer");
        let (ada, eve, bob) = ([192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]);
        let (first, second) = (ask(eve).await, ask(eve).await);
        assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
        let third = ask(eve).await;
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(third.headers()["retry-after"], "1");
        assert_eq!(third.headers()["content-type"], "application/problem+json");
        let other = ask(ada).await;
        assert_eq!((other.status(), ask(bob).await.status()), (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(first.into_body().collect().await.expect("a body").to_bytes(), "answer");
        assert_eq!(ask(eve).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn an_answer_without_a_known_end_counts_until_it_begins() {
        let endless = || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let routes = bounded(Router::new().route("/", get(async move || endless())), 1, 1);
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(routes.clone().oneshot(from([192, 0, 2, 1])).await.expect("an answer"));
        }
        assert!(open.iter().all(|response| response.status() == StatusCode::OK));
    }
}
