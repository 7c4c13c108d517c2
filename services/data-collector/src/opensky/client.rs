use std::{sync::Arc, time::Duration};

use reqwest::{Response, StatusCode, redirect::Policy};
use runtime::http_client::{BodyError, Proxies, client_for, read_capped};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};
use url::Url;

use super::{
    ApiRequest, ApiResponse, CallError,
    breaker::Breaker,
    oauth::{Credentials, OAuthClient},
    wire::{self, Unreadable},
};
use crate::{
    core::{credits::Bucket, day},
    metrics::Metrics,
};

/// The largest body that is read: the whole globe's states are about 2 MB.
const LARGEST_BODY: usize = 32 * 1024 * 1024;

const REMAINING: &str = "x-rate-limit-remaining";
/// How long to be silent: OpenSky's own header, and the one that everybody knows.
const RETRY_AFTER: [&str; 2] = ["x-rate-limit-retry-after-seconds", "retry-after"];

/// Where OpenSky is, and how patient we are.
#[derive(Clone)]
pub struct OpenSkyConfig {
    /// The base of the interface.
    pub api_url: Url,
    /// Where tokens come from.
    pub token_url: Url,
    /// Who we are; without it OpenSky sees an anonymous caller, with a smaller budget.
    pub credentials: Option<Credentials>,
    /// The proxies on the way there.
    pub proxies: Proxies,
    /// How long a call may take.
    pub time_limit: Duration,
    /// How long a breaker stays open.
    pub open_for: Duration,
}

/// The client. Clones share connections, token and breakers.
#[derive(Clone)]
pub struct OpenSky {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    config: OpenSkyConfig,
    oauth: Option<OAuthClient>,
    sign_in_breaker: Breaker,
    states_breaker: Breaker,
    flights_breaker: Breaker,
    metrics: Metrics,
}

impl OpenSky {
    /// A client that has not asked anything yet.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(config: OpenSkyConfig, metrics: Metrics) -> anyhow::Result<Self> {
        let http = client_for([&config.api_url, &config.token_url], &config.proxies)?
            .user_agent(concat!("flightbell/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.time_limit)
            // The client's secret goes to whom the settings name, and not on from there.
            .redirect(Policy::none())
            .build()?;
        let breaker = |name| Breaker::new(name, metrics.breaker_state(name), config.open_for);
        let oauth = config.credentials.clone().map(|who| OAuthClient::new(config.token_url.clone(), who));
        let inner = Inner {
            http,
            oauth,
            sign_in_breaker: breaker("sign-in"),
            states_breaker: breaker("states"),
            flights_breaker: breaker("flights"),
            config,
            metrics,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Asks, and reads the answer with `read`. One 401 means an expired token and is repeated with a
    /// fresh one.
    pub(super) async fn ask<T>(
        &self,
        request: &ApiRequest<'_>,
        read: fn(&[u8]) -> Result<T, Unreadable>,
    ) -> ApiResponse<T> {
        let this = &*self.inner;
        let breaker = if request.bucket() == Bucket::States { &this.states_breaker } else { &this.flights_breaker };
        let url = request.url(&this.config.api_url);
        let mut remaining = None;
        let content = async {
            let token = this.token().await?;
            // Both attempts are one call to the breaker: a 401 by itself would count as neither success
            // nor failure, which the breaker does not know.
            breaker.call(CallError::counts, this.get_with_fresh_token(&url, token, read, &mut remaining)).await
        };
        let content = content.await;
        ApiResponse { content, remaining }
    }
}

impl Inner {
    async fn token(&self) -> Result<Option<SecretString>, CallError> {
        let Some(oauth) = &self.oauth else { return Ok(None) };
        let fetch = self.sign_in_breaker.call(CallError::counts, self.fetch_token(oauth));
        oauth.token(fetch).await.map(Some).map_err(|error| CallError::OAuthClient(Box::new(error)))
    }

    async fn fetch_token(&self, oauth: &OAuthClient) -> Result<wire::Token, CallError> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &oauth.credentials.client_id),
            ("client_secret", oauth.credentials.client_secret.expose_secret()),
        ];
        let asked = async {
            let response = self.http.post(oauth.url.clone()).form(&form).send().await;
            let response = response.map_err(|error| CallError::Unreachable(error.without_url()))?;
            if response.status() != StatusCode::OK {
                return Err(CallError::Status(response.status().as_u16()));
            }
            wire::token(&body(response).await?).map_err(CallError::Unreadable)
        };
        timeout(self.config.time_limit, asked).await.unwrap_or(Err(CallError::TimedOut(self.config.time_limit)))
    }

    /// Asks; when `token` is refused, once more with a fresh one.
    async fn get_with_fresh_token<T>(
        &self,
        url: &Url,
        token: Option<SecretString>,
        read: fn(&[u8]) -> Result<T, Unreadable>,
        remaining: &mut Option<u32>,
    ) -> Result<Option<T>, CallError> {
        let answer = self.get(url, token.as_ref(), read, remaining).await;
        let (Err(CallError::Unauthorized), Some(oauth), Some(refused)) = (&answer, &self.oauth, &token) else {
            return answer;
        };
        oauth.forget(refused).await;
        let token = self.token().await?;
        self.get(url, token.as_ref(), read, remaining).await
    }

    async fn get<T>(
        &self,
        url: &Url,
        token: Option<&SecretString>,
        read: fn(&[u8]) -> Result<T, Unreadable>,
        remaining: &mut Option<u32>,
    ) -> Result<Option<T>, CallError> {
        let begun = Instant::now();
        let sent = timeout(self.config.time_limit, self.send(url, token, remaining)).await;
        let body = sent.unwrap_or(Err(CallError::TimedOut(self.config.time_limit)));
        let content = body.and_then(|body| body.map(|body| read(&body)).transpose().map_err(CallError::Unreadable));
        let status = match &content {
            Ok(Some(_)) => "200",
            Ok(None) => "404",
            Err(error) => error.label(),
        };
        self.metrics.opensky_call(status, begun.elapsed());
        content
    }

    /// The body of a reply; none when there is nothing (404). What is left of the credits is noted
    /// whatever the reply.
    async fn send(
        &self,
        url: &Url,
        token: Option<&SecretString>,
        remaining: &mut Option<u32>,
    ) -> Result<Option<Vec<u8>>, CallError> {
        let mut request = self.http.get(url.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        let response = request.send().await.map_err(|error| CallError::Unreachable(error.without_url()))?;
        if let Some(left) = number(&response, REMAINING) {
            *remaining = Some(u32::try_from(left).unwrap_or(u32::MAX));
        }
        match response.status() {
            StatusCode::OK => Ok(Some(body(response).await?)),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED => Err(CallError::Unauthorized),
            StatusCode::BAD_REQUEST => Err(CallError::BadRequest),
            StatusCode::TOO_MANY_REQUESTS => {
                let seconds = RETRY_AFTER.into_iter().find_map(|header| number(&response, header));
                Err(CallError::TooManyRequests { seconds })
            }
            status => Err(CallError::Status(status.as_u16())),
        }
    }
}

fn number(response: &Response, header: &str) -> Option<u64> {
    response.headers().get(header)?.to_str().ok()?.trim().parse().ok()
}

async fn body(response: Response) -> Result<Vec<u8>, CallError> {
    read_capped(response, LARGEST_BODY).await.map_err(|error| {
        CallError::Unreadable(match error {
            BodyError::TooLarge => Unreadable::TooLarge,
            BodyError::Broken(error) => Unreadable::Broken(error),
        })
    })
}

impl ApiRequest<'_> {
    fn bucket(&self) -> Bucket {
        match self {
            Self::States(_) => Bucket::States,
            Self::Flights { .. } => Bucket::Flights,
        }
    }

    fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        let path = match self {
            Self::States(_) => "states/all".to_owned(),
            Self::Flights { direction, .. } => format!("flights/{}", direction.as_str()),
        };
        url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
        let mut query = url.query_pairs_mut();
        match self {
            Self::States(area) => {
                let edges = [("lamin", area.south), ("lomin", area.west), ("lamax", area.north), ("lomax", area.east)];
                for (name, degrees) in edges {
                    query.append_pair(name, &format!("{degrees:.5}"));
                }
                // Without it rows have no category, and vehicles would look like aircraft.
                query.append_pair("extended", "1");
            }
            Self::Flights { airport, day, .. } => {
                let (begin, end) = day::window(*day);
                query.append_pair("airport", airport);
                query.append_pair("begin", &begin.timestamp().to_string());
                query.append_pair("end", &end.timestamp().to_string());
            }
        }
        drop(query);
        url
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::core::{day::Direction, geo::GeoBox};

    #[test]
    fn questions_are_asked_the_way_the_interface_wants() {
        let base: Url = "https://opensky.example/api".parse().expect("a URL");
        let area = GeoBox { south: 48.5, west: -1.25, north: 49.5, east: 2.0 };
        let url = ApiRequest::States(&area).url(&base);
        let expected = "https://opensky.example/api/states/all?lamin=48.50000&lomin=-1.25000&lamax=49.50000&lomax=2.00000\
             &extended=1";
        assert_eq!(url.as_str(), expected);
        let day = "2020-03-21".parse().expect("a date");
        let url = ApiRequest::Flights { airport: "KSFO", direction: Direction::Arrival, day }.url(&base);
        let expected = "https://opensky.example/api/flights/arrival?airport=KSFO&begin=1584748800&end=1584835199";
        assert_eq!(url.as_str(), expected);
    }

    /// Answers one request with `head` and no body. Answers the address to ask.
    fn answering(head: &'static str) -> Url {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 4096];
            let read = stream.read(&mut request).expect("a request");
            assert!(request[..read].starts_with(b"GET /states/all?"));
            write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").expect("answered");
        });
        format!("http://{addr}").parse().expect("a URL")
    }

    async fn ask(head: &'static str) -> ApiResponse<crate::core::live::StateSnapshot> {
        runtime::choose_tls();
        let api_url = answering(head);
        let (time_limit, open_for) = (Duration::from_secs(5), Duration::from_secs(60));
        let (token_url, proxies) = (api_url.clone(), Proxies::default());
        let config = OpenSkyConfig { token_url, api_url, credentials: None, proxies, time_limit, open_for };
        let metrics = Metrics::register(&prometheus::Registry::new()).expect("metrics");
        let area = GeoBox { south: 48.5, west: -1.25, north: 49.5, east: 2.0 };
        OpenSky::new(config, metrics).expect("a client").states(&area).await
    }

    #[tokio::test]
    async fn what_is_left_is_believed_whatever_else_a_reply_says() {
        for (head, left) in [
            ("503 Unavailable\r\nX-Rate-Limit-Remaining: 17", Some(17)),
            ("404 Not Found\r\nX-Rate-Limit-Remaining: 16", Some(16)),
            ("200 OK\r\nX-Rate-Limit-Remaining: 15", Some(15)),
            ("400 Bad Request\r\nX-Rate-Limit-Remaining: many", None),
            ("200 OK", None),
        ] {
            assert_eq!(ask(head).await.remaining, left, "{head}");
        }
    }

    #[tokio::test]
    async fn silence_is_as_long_as_either_header_says() {
        for (head, expected) in [
            ("429 Slow down\r\nX-Rate-Limit-Retry-After-Seconds: 38715\r\nRetry-After: 7", Some(38_715)),
            ("429 Slow down\r\nRetry-After: 7", Some(7)),
            ("429 Slow down\r\nX-Rate-Limit-Retry-After-Seconds: later", None),
            ("429 Slow down", None),
        ] {
            let Err(CallError::TooManyRequests { seconds }) = ask(head).await.content else { panic!("{head}") };
            assert_eq!(seconds, expected, "{head}");
        }
    }
}
