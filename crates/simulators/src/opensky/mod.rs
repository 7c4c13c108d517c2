//! A simulator for OpenSky: its own HTTP interface, from recordings or from what a test says.
//!
//! It is as strict as the real one where a client could go wrong: tokens expire, calls cost credits
//! and are refused with 429 when there are none left, flights exist only for published days and one
//! window touches at most two of them, an empty sky is `"states": null`.
//!
//! Of a recording it never answers more than was recorded. A box that leaves the recorded area, or
//! the flights of an airport or a published day that were not recorded, is refused with **400** and a
//! sentence: a 404 or an empty list would be a false zero, and a 5xx would make a client's breaker
//! close OpenSky for the airports that were recorded too. When the recording has ended, `/states/all`
//! answers 503: live traffic is unknown from then on.

mod answer;
mod credits;
mod failure;
mod query;
mod recording;
mod replay;
mod request;
mod rows;
mod scripted;
mod server;
mod source;
mod tokens;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{ClockFn, serve::Server};

pub use credits::{Bucket, Budget, Caller, flights_cost, states_cost};
pub use failure::Failure;
pub use query::Direction;
pub use recording::Recording;
pub use replay::{ReplayState, begins_at, ends_at, published_at};
pub use request::{Auth, Endpoint, Request};
pub use rows::{Area, Flight, State};
pub use scripted::Scripted;
pub use source::Source;

use server::Api;

/// How the simulator is set up.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Its time: of states, of published days, of the credits' day.
    pub clock: ClockFn,
    /// The one account's name.
    pub client_id: String,
    /// The one account's secret.
    pub client_secret: String,
    /// How long a token lasts, in real time; OpenSky's last 30 minutes.
    pub token_lifetime: Duration,
    /// How many credits there are a day.
    pub budget: Budget,
}

impl Options {
    /// On a free loopback port, with an account `flightbell` and OpenSky's own figures.
    #[must_use]
    pub fn new(clock: ClockFn) -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            clock,
            client_id: "flightbell".to_owned(),
            client_secret: "simulator".to_owned(),
            token_lifetime: Duration::from_secs(1800),
            budget: Budget::default(),
        }
    }
}

/// A running simulator. It stops when this is dropped, or by the token it was started with.
pub struct OpenSky {
    server: Server,
    api: Arc<Api>,
}

impl OpenSky {
    /// Listens and answers from `source` until `stopping`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(options: Options, source: Source, stopping: &CancellationToken) -> anyhow::Result<Self> {
        let addr = options.addr;
        let api = Arc::new(Api::new(options, source));
        let server = Server::start(addr, server::routes(Arc::clone(&api)), stopping).await?;
        Ok(Self { server, api })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// What to set as `OPEN_SKY_API_URL`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}/api", self.addr())
    }

    /// What to set as `OPEN_SKY_TOKEN_URL`: the real one's path.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("http://{}{}", self.addr(), server::TOKEN_PATH)
    }

    /// Orders a failure of the next call of this kind, behind those ordered before.
    pub fn fail(&self, endpoint: Endpoint, failure: Failure) {
        self.fail_times(endpoint, failure, 1);
    }

    /// Orders a failure of so many calls of this kind.
    pub fn fail_times(&self, endpoint: Endpoint, failure: Failure, times: u32) {
        self.api.failures.order(endpoint, failure, Some(times));
    }

    /// Orders a failure of every call of this kind until [`OpenSky::recover`].
    pub fn fail_always(&self, endpoint: Endpoint, failure: Failure) {
        self.api.failures.order(endpoint, failure, None);
    }

    /// Forgets the failures that were ordered of this kind of call.
    pub fn recover(&self, endpoint: Endpoint) {
        self.api.failures.clear(&endpoint);
    }

    /// Lets every token expire that was given so far.
    pub fn expire_tokens(&self) {
        self.api.tokens.expire_all();
    }

    /// Sets what is left of today's credits.
    pub fn set_credits(&self, bucket: Bucket, caller: Caller, left: u32) {
        let now = (self.api.options.clock)();
        self.api.accounts().set(bucket, caller, left, now);
    }

    /// What is left of today's credits.
    #[must_use]
    pub fn credits(&self, bucket: Bucket, caller: Caller) -> u32 {
        let now = (self.api.options.clock)();
        self.api.accounts().left(bucket, caller, now)
    }

    /// Leaves the credit headers away from answers, or sends them again.
    pub fn hide_credit_headers(&self, hidden: bool) {
        self.api.headers_hidden.store(hidden, std::sync::atomic::Ordering::Relaxed);
    }

    /// Answers state vectors with so many columns (17 or 18), whatever is asked for; `None` obeys
    /// `extended`.
    pub fn set_columns(&self, columns: Option<usize>) {
        self.api.columns.store(columns.unwrap_or_default(), std::sync::atomic::Ordering::Relaxed);
    }

    /// The newest 10,000 requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.api.requests.all()
    }

    /// The requests of one kind, oldest first.
    #[must_use]
    pub fn requests_to(&self, endpoint: Endpoint) -> Vec<Request> {
        self.api.requests.filter(|request| request.endpoint == endpoint)
    }

    /// Waits until `enough` holds of the requests so far, and returns them.
    ///
    /// # Errors
    /// When it does not hold within `limit`; the error names what there was.
    pub async fn wait_for(&self, limit: Duration, enough: impl Fn(&[Request]) -> bool) -> anyhow::Result<Vec<Request>> {
        self.api.requests.wait_for(limit, enough).await
    }

    /// Closes the port and every connection, and waits until that is done.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}
