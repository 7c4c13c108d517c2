//! A simulator for Telegram: its Bot API as far as sending goes, and a page that shows the chats.
//!
//! Texts are checked as Telegram checks them, limits are kept where a test asks for it, and every
//! attempt is remembered, with whether the message reached the chat and whether the sender was told.
//! Markdown, files, buttons and updates are not served.

mod bot_api;
mod failure;
mod fields;
mod html;
mod limits;
mod message;
mod page;
mod server;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::serve::Server;

pub use failure::Failure;
pub use html::Entity;
pub use limits::Limits;
pub use message::Sent;
pub use page::{Credit, Page};

use bot_api::BotApi;

/// How the simulator is set up.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// The bot's token; any other is answered with 401.
    pub token: String,
    /// The limits to keep, if any.
    pub limits: Option<Limits>,
    /// What the page says.
    pub page: Page,
}

impl Options {
    /// On a free loopback port, without limits.
    #[must_use]
    pub fn new(page: Page) -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: "1000000001:simulator".to_owned(),
            limits: None,
            page,
        }
    }
}

/// What a failure concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Messages into one chat.
    Chat(i64),
    /// Messages into any chat.
    All,
    /// `getMe`.
    GetMe,
}

/// A running simulator. It stops when this is dropped, or by the token it was started with.
pub struct Telegram {
    server: Server,
    bot_api: Arc<BotApi>,
}

impl Telegram {
    /// Listens and takes messages until `stopping`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(options: Options, stopping: &CancellationToken) -> anyhow::Result<Self> {
        let addr = options.addr;
        let bot_api = Arc::new(BotApi::new(options));
        let server = Server::start(addr, server::routes(Arc::clone(&bot_api)), stopping).await?;
        Ok(Self { server, bot_api })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// What to set as `TELEGRAM_API_URL`, and the address of the page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// What to set as `TELEGRAM_BOT_TOKEN`.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.bot_api.options.token
    }

    /// Orders a failure of the next call, behind those ordered before. One chat's come before those of
    /// all.
    pub fn fail(&self, scope: Scope, failure: Failure) {
        self.fail_times(scope, failure, 1);
    }

    /// Orders a failure of so many calls.
    pub fn fail_times(&self, scope: Scope, failure: Failure, times: u32) {
        self.bot_api.failures.order(scope, failure, Some(times));
    }

    /// Orders a failure of every call until [`Telegram::recover`].
    pub fn fail_always(&self, scope: Scope, failure: Failure) {
        self.bot_api.failures.order(scope, failure, None);
    }

    /// Forgets the failures that were ordered for this scope.
    pub fn recover(&self, scope: Scope) {
        self.bot_api.failures.clear(&scope);
    }

    /// The newest 200,000 attempts, oldest first.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        self.bot_api.sent.all()
    }

    /// The attempts that reached a chat, oldest first.
    #[must_use]
    pub fn delivered(&self) -> Vec<Sent> {
        self.bot_api.sent.filter(Sent::is_in_chat)
    }

    /// Waits until `enough` holds of all attempts so far, and returns them.
    ///
    /// # Errors
    /// When it does not hold within `limit`; the error names what there was.
    pub async fn wait_for(&self, limit: Duration, enough: impl Fn(&[Sent]) -> bool) -> anyhow::Result<Vec<Sent>> {
        self.bot_api.sent.wait_for(limit, enough).await
    }

    /// Waits until at least `count` messages reached a chat, and returns those that did.
    ///
    /// # Errors
    /// When they do not within `limit`; the error names what there was.
    pub async fn wait_for_delivered(&self, limit: Duration, count: usize) -> anyhow::Result<Vec<Sent>> {
        self.wait_for(limit, |sent| sent.iter().filter(|sent| sent.is_in_chat()).count() >= count).await?;
        Ok(self.delivered())
    }

    /// Closes the port and every connection, and waits until that is done.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}
