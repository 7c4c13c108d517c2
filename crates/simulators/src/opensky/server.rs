//! The routes: who asks, what goes wrong on purpose, what is remembered.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    Router,
    extract::{RawQuery, State},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use super::{
    Options, Source,
    answer::{self, Query},
    credits::{Accounts, Bucket, Caller},
    failure::{Failure, REMAINING, RETRY_AFTER},
    request::{Auth, Endpoint, Request},
    tokens::Tokens,
};
use crate::{log::Log, reply::Reply, script::Script};

pub(super) const TOKEN_PATH: &str = "/auth/realms/opensky-network/protocol/openid-connect/token";

const MOST_REQUESTS: usize = 10_000;

/// Everything that answers share.
pub(super) struct Api {
    pub(super) options: Options,
    pub(super) source: Source,
    pub(super) failures: Script<Endpoint, Failure>,
    pub(super) tokens: Tokens,
    pub(super) requests: Log<Request>,
    pub(super) headers_hidden: AtomicBool,
    /// 0 obeys the request.
    pub(super) columns: AtomicUsize,
    accounts: Mutex<Accounts>,
}

impl Api {
    pub(super) fn new(options: Options, source: Source) -> Self {
        Self {
            accounts: Mutex::new(Accounts::new(options.budget)),
            options,
            source,
            failures: Script::new(),
            tokens: Tokens::default(),
            requests: Log::new(MOST_REQUESTS),
            headers_hidden: AtomicBool::new(false),
            columns: AtomicUsize::new(0),
        }
    }

    pub(super) fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn auth(&self, headers: &HeaderMap) -> Auth {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Auth::None };
        match value.to_str().unwrap_or_default().split_once(' ') {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("basic") => Auth::Basic,
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && self.tokens.is_valid(token.trim()) => {
                Auth::Token
            }
            _ => Auth::WrongToken,
        }
    }

    /// A call to the API: fails as ordered, or checks who asks, takes the credits and answers.
    async fn call(&self, endpoint: Endpoint, query: Option<String>, headers: HeaderMap) -> Response {
        let now = (self.options.clock)();
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        let auth = self.auth(&headers);
        let reply = match self.failures.next(&[endpoint]) {
            Some(failure) if failure.needs_answer() => failure.inject_fault(self.answer(endpoint, &query, auth, now)),
            Some(failure) => failure.inject_fault(Reply::empty(StatusCode::OK)),
            None => self.answer(endpoint, &query, auth, now),
        };
        self.requests.push(Request { at: now, endpoint, query, auth, status: reply.status.as_u16() });
        reply.send().await
    }

    fn answer(&self, endpoint: Endpoint, query: &[(String, String)], auth: Auth, now: DateTime<Utc>) -> Reply {
        let caller = match auth {
            Auth::Token => Caller::SignedIn,
            Auth::None | Auth::Basic => Caller::Anonymous,
            Auth::WrongToken => return Reply::text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        };
        let query = match Query::read(endpoint, query) {
            Ok(query) => query,
            Err(problem) => return Reply::text(StatusCode::BAD_REQUEST, problem),
        };
        let bucket = if endpoint == Endpoint::States { Bucket::States } else { Bucket::Flights };
        let charged = self.accounts().charge(bucket, caller, query.cost(now), now);
        let hidden = self.headers_hidden.load(Ordering::Relaxed);
        match charged {
            Ok(left) => {
                let reply = answer::answer(&self.source, &query, self.columns.load(Ordering::Relaxed), now);
                if hidden { reply } else { reply.with_header(REMAINING, left) }
            }
            Err(exhausted) => {
                let reply = Reply::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
                if hidden { reply } else { reply.with_header(RETRY_AFTER, exhausted.retry_after_seconds) }
            }
        }
    }

    /// Signing in with the client's credentials, as Keycloak answers it.
    async fn issue_token(&self, form: Bytes) -> Response {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&form).into_owned().collect();
        let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let refuse = |status, error: &str| Reply::json(status, &json!({ "error": error }));
        let answer = || {
            if value("grant_type") != Some("client_credentials") {
                return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type");
            }
            let Options { client_id, client_secret, token_lifetime, .. } = &self.options;
            if value("client_id") != Some(client_id) || value("client_secret") != Some(client_secret) {
                return refuse(StatusCode::UNAUTHORIZED, "invalid_client");
            }
            let token = self.tokens.give(*token_lifetime);
            let expires_in = token_lifetime.as_secs();
            let body = json!({ "access_token": token, "expires_in": expires_in, "token_type": "Bearer" });
            Reply::json(StatusCode::OK, &body)
        };
        let reply = match self.failures.next(&[Endpoint::Token]) {
            Some(failure) if failure.needs_answer() => failure.inject_fault(answer()),
            Some(failure) => failure.inject_fault(Reply::empty(StatusCode::OK)),
            None => answer(),
        };
        self.requests.push(Request {
            at: (self.options.clock)(),
            endpoint: Endpoint::Token,
            query: Vec::new(),
            auth: Auth::None,
            status: reply.status.as_u16(),
        });
        reply.send().await
    }
}

pub(super) fn routes(api: Arc<Api>) -> Router {
    let call = |endpoint: Endpoint| {
        get(move |State(api): State<Arc<Api>>, RawQuery(query): RawQuery, headers: HeaderMap| async move {
            api.call(endpoint, query, headers).await
        })
    };
    let issue_token = |State(api): State<Arc<Api>>, form: Bytes| async move { api.issue_token(form).await };
    Router::new()
        .route(TOKEN_PATH, post(issue_token))
        .route("/api/states/all", call(Endpoint::States))
        .route("/api/flights/arrival", call(Endpoint::Arrivals))
        .route("/api/flights/departure", call(Endpoint::Departures))
        .with_state(api)
}
