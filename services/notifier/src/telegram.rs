//! Telegram's Bot API, as far as it is needed to send. The token is part of every URL, so no URL
//! and no error of the client that names one leaves this file.

use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, Response, header::RETRY_AFTER, redirect::Policy};
use runtime::http_client::{BodyError, Proxies, client_for, read_capped};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use url::Url;

use crate::core::{
    message::Markup,
    rate_limiter::ChatId,
    send_result::{SendResult, TelegramFault, classify},
};

/// An answer is read up to here; a real one is a few hundred bytes.
const LONGEST_ANSWER: usize = 256 * 1024;
/// How long a connection may take. It ends before the call's own limit does, so that a call which
/// cannot have been sent is told apart from one that may have been.
const CONNECT_SHARE: u32 = 2;

/// Where Telegram is and who we are there.
#[derive(Clone, Debug)]
pub struct TelegramConfig {
    /// The Bot API, or a simulator.
    pub api_url: Url,
    /// The bot's token.
    pub token: SecretString,
    /// The proxies on the way there.
    pub proxies: Proxies,
    /// How long one call may take, from connecting to the last byte of the answer.
    pub call_limit: Duration,
}

/// A client of the Bot API. Clones share its connections.
#[derive(Clone)]
pub struct Telegram {
    client: Client,
    config: TelegramConfig,
}

/// What the token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenCheck {
    /// Telegram knows it.
    Accepted,
    /// Telegram does not.
    Refused,
    /// Telegram could not say.
    Unknown,
}

#[derive(Serialize)]
struct SendMessage<'a> {
    chat_id: i64,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parse_mode: Option<&'static str>,
    link_preview_options: LinkPreview,
}

#[derive(Serialize)]
struct LinkPreview {
    is_disabled: bool,
}

impl Telegram {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: &TelegramConfig) -> anyhow::Result<Self> {
        let client = client_for([&config.api_url], &config.proxies)
            .context("use the proxy on the way to Telegram")?
            .timeout(config.call_limit)
            .connect_timeout(config.call_limit / CONNECT_SHARE)
            // Telegram does not redirect: a server that does is not Telegram, and must not get the message.
            .redirect(Policy::none())
            .build()
            .context("prepare the client for Telegram")?;
        Ok(Self { client, config: config.clone() })
    }

    /// Sends one message, once. Nothing is repeated here.
    pub async fn send(&self, chat: ChatId, text: &str, markup: Markup) -> SendResult {
        let message = SendMessage {
            chat_id: chat.0,
            text,
            parse_mode: (markup == Markup::Html).then_some("HTML"),
            link_preview_options: LinkPreview { is_disabled: true },
        };
        match self.client.post(self.url("sendMessage")).json(&message).send().await {
            Ok(response) => send_result(response).await,
            Err(error) => SendResult::TelegramDown(fault(&error.without_url())),
        }
    }

    /// Asks whether Telegram knows the token.
    pub async fn check_token(&self) -> TokenCheck {
        let Ok(response) = self.client.post(self.url("getMe")).send().await else { return TokenCheck::Unknown };
        match send_result(response).await {
            SendResult::Delivered { .. } => TokenCheck::Accepted,
            SendResult::TelegramDown(TelegramFault::WrongToken) => TokenCheck::Refused,
            _ => TokenCheck::Unknown,
        }
    }

    fn url(&self, method: &str) -> String {
        let base = self.config.api_url.as_str().trim_end_matches('/');
        format!("{base}/bot{}/{method}", self.config.token.expose_secret())
    }
}

async fn send_result(response: Response) -> SendResult {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match read_capped(response, LONGEST_ANSWER).await {
        Ok(body) => classify(status, retry_after, &body),
        Err(BodyError::Broken(error)) if (200..300).contains(&status) => SendResult::TelegramDown(fault(&error)),
        // An endless answer, or one that ended early, is one that cannot be read.
        Err(BodyError::TooLarge | BodyError::Broken(_)) => classify(status, retry_after, b""),
    }
}

fn fault(error: &reqwest::Error) -> TelegramFault {
    if error.is_connect() {
        TelegramFault::Unreachable
    } else if error.is_timeout() {
        TelegramFault::TimedOut
    } else {
        TelegramFault::Broken
    }
}
