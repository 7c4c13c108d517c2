//! Both simulators as clients meet them: over HTTP on the loopback interface.

#![cfg(test)]

mod failing_opensky;
mod failing_telegram;
mod page;
mod replay;
mod scripted;
mod sending;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use reqwest::{Client, Response};
use serde_json::Value;
use simulators::{
    ClockFn,
    opensky::{OpenSky, Options, Scripted, Source},
    telegram::{self, Page, Telegram},
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

fn client() -> Client {
    runtime::choose_tls();
    Client::builder().timeout(SOON).build().expect("a client")
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// A clock that shows what the test says.
#[derive(Clone)]
struct ClockControl(Arc<Mutex<DateTime<Utc>>>);

impl ClockControl {
    fn new(text: &str) -> Self {
        Self(Arc::new(Mutex::new(at(text))))
    }

    fn set(&self, text: &str) {
        *self.0.lock().expect("the clock") = at(text);
    }

    fn clock(&self) -> ClockFn {
        let hands = Arc::clone(&self.0);
        Arc::new(move || *hands.lock().expect("the clock"))
    }
}

/// OpenSky with a client beside it.
struct OpenSkyClient {
    opensky: OpenSky,
    client: Client,
    clock: ClockControl,
}

impl OpenSkyClient {
    async fn start(source: Source, now: &str) -> Self {
        Self::start_with(source, now, |_| {}).await
    }

    async fn start_with(source: Source, now: &str, change: impl FnOnce(&mut Options)) -> Self {
        let clock = ClockControl::new(now);
        let mut options = Options::new(clock.clock());
        change(&mut options);
        let opensky = OpenSky::start(options, source, &CancellationToken::new()).await.expect("a simulator");
        Self { opensky, client: client(), clock }
    }

    async fn scripted() -> (Self, Scripted) {
        let scripted = Scripted::new();
        (Self::start(Source::Scripted(scripted.clone()), "2026-11-21T10:00:00Z").await, scripted)
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.opensky.api_url())).send().await.expect("an answer")
    }

    async fn get_with(&self, path: &str, token: &str) -> Response {
        let url = format!("{}{path}", self.opensky.api_url());
        self.client.get(url).bearer_auth(token).send().await.expect("an answer")
    }

    async fn sign_in(&self, secret: &str) -> Response {
        let form = [("grant_type", "client_credentials"), ("client_id", "flightbell"), ("client_secret", secret)];
        self.client.post(self.opensky.token_url()).form(&form).send().await.expect("an answer")
    }

    async fn token(&self) -> String {
        let answer: Value = self.sign_in("simulator").await.json().await.expect("JSON");
        answer["access_token"].as_str().expect("a token").to_owned()
    }
}

/// Telegram with a client beside it.
struct TelegramClient {
    telegram: Telegram,
    client: Client,
}

impl TelegramClient {
    async fn start() -> Self {
        Self::start_with(telegram::Options::new(Page::plain())).await
    }

    async fn start_with(options: telegram::Options) -> Self {
        let telegram = Telegram::start(options, &CancellationToken::new()).await.expect("a simulator");
        Self { telegram, client: client() }
    }

    fn url(&self, method: &str) -> String {
        format!("{}/bot{}/{method}", self.telegram.url(), self.telegram.token())
    }

    async fn send(&self, body: Value) -> (u16, Value) {
        let response = self.client.post(self.url("sendMessage")).json(&body).send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }
}
