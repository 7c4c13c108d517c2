//! The API as people use it, through HTTPS.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use reqwest::{Certificate, Client, ClientBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    cluster::ENTRY,
    sky::{AIRPORTS, HIGH},
};

/// Where people find the entry.
pub const URL: &str = "https://localhost";

/// How many people there are; each watches every airport.
pub const PEOPLE: u32 = 100;

/// How many people register at a time.
const AT_A_TIME: usize = 8;

/// Which version of HTTP a client speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// One request after the other on a connection.
    Http1,
    /// All on one connection.
    Http2,
}

/// A client that trusts `authority`, and keeps its connections.
///
/// # Errors
/// When the certificate cannot be read.
pub fn client(authority: &str, speaks: Speaks) -> anyhow::Result<Client> {
    builder(authority, speaks)?.build().context("prepare a client")
}

/// What makes such a client.
///
/// # Errors
/// When the certificate cannot be read.
pub fn builder(authority: &str, speaks: Speaks) -> anyhow::Result<ClientBuilder> {
    let entry: SocketAddr = ENTRY.parse().context("read the entry's address")?;
    let builder = Client::builder()
        .no_proxy()
        .tls_certs_only([Certificate::from_pem(authority.as_bytes()).context("understand the authority")?])
        .resolve("localhost", entry)
        .retry(reqwest::retry::never())
        .timeout(Duration::from_secs(20));
    Ok(if speaks == Speaks::Http1 { builder.http1_only() } else { builder })
}

/// The address of the person with that number, and their chat.
pub fn email(number: u32) -> String {
    format!("person-{number}@example.org")
}

/// The chat of the person with that number.
pub fn chat(number: u32) -> i64 {
    10_000 + i64::from(number)
}

/// Registers a person who watches these airports.
///
/// # Errors
/// When a request is refused.
pub async fn register(client: &Client, number: u32, airports: &[&str]) -> anyhow::Result<()> {
    let email = email(number);
    let user = json!({"email": email, "first_name": "Person", "last_name": number.to_string()});
    post(client, "/user-manager/users", format!("{email}-user"), &user).await?;
    let link = json!({"email": email, "telegram_chat_id": chat(number)});
    post(client, "/user-manager/users/telegram", format!("{email}-chat"), &link).await?;
    for airport in airports {
        let interest = json!({"email": email, "airport_code": airport, "metric": "live", "high_value": HIGH});
        post(client, "/data-collector/interests", format!("{email}-{airport}"), &interest).await?;
    }
    Ok(())
}

/// Registers everybody.
///
/// # Errors
/// When a request is refused.
pub async fn register_all(client: &Client) -> anyhow::Result<()> {
    let mut registering = JoinSet::new();
    for number in 0..PEOPLE {
        let client = client.clone();
        registering.spawn(async move { register(&client, number, &AIRPORTS).await });
        if registering.len() == AT_A_TIME {
            registering.join_next().await.transpose()?.transpose()?;
        }
    }
    while let Some(registered) = registering.join_next().await {
        registered??;
    }
    Ok(())
}

async fn post(client: &Client, path: &str, key: String, body: &Value) -> anyhow::Result<()> {
    let request = client.post(format!("{URL}{path}")).header("Idempotency-Key", key).json(body);
    let response = request.send().await.with_context(|| format!("reach {path}"))?;
    let status = response.status();
    let answer = response.text().await.unwrap_or_default();
    ensure!(status.is_success(), "{path} answered {status}: {answer}");
    Ok(())
}

/// A reading, as the API lists it.
#[derive(Clone, Debug, Deserialize)]
pub struct Reading {
    /// Rises with every reading of the airport.
    pub seq: i64,
    /// The number of aircraft; `None` when it is unknown.
    pub value: Option<u32>,
    /// When OpenSky was asked.
    pub observed_at: DateTime<Utc>,
}

/// Every reading of an airport, oldest first.
///
/// # Errors
/// When the API does not answer, or not in this shape.
pub async fn readings(client: &Client, airport: &str) -> anyhow::Result<Vec<Reading>> {
    let url = format!("{URL}/data-collector/readings/{airport}?metric=live&limit=1000");
    let response = client.get(url).send().await?;
    ensure!(response.status() == StatusCode::OK, "readings of {airport}: {}", response.status());
    ensure!(response.headers().get("link").is_none(), "{airport} has more readings than a page holds");
    let mut readings: Vec<Reading> = response.json().await?;
    readings.sort_by_key(|reading| reading.seq);
    Ok(readings)
}
