//! The simulator for Telegram, with the verbs of these stories.

use std::{ops::Deref, sync::Arc, time::Duration};

use simulators::telegram::{Failure, Limits, Options, Page, Scope, Sent};
use tokio_util::sync::CancellationToken;

/// The token that it knows.
pub const TOKEN: &str = "123456:test-token_of-a-bot";

#[derive(Clone)]
pub struct Telegram(Arc<simulators::telegram::Telegram>);

impl Deref for Telegram {
    type Target = simulators::telegram::Telegram;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A refusal as Telegram words it.
pub fn refusal(code: u16, description: &str) -> Failure {
    Failure::Refused { code, description: description.to_owned(), parameters: None }
}

/// The time between two calls.
pub fn gap(earlier: &Sent, later: &Sent) -> Duration {
    (later.received_at - earlier.received_at).to_std().unwrap_or_default()
}

impl Telegram {
    pub async fn start(limits: Option<Limits>) -> Self {
        let options = Options { token: TOKEN.to_owned(), limits, ..Options::new(Page::plain()) };
        let simulator = simulators::telegram::Telegram::start(options, &CancellationToken::new()).await;
        Self(Arc::new(simulator.expect("a simulator for Telegram")))
    }

    /// The next message, to any chat, fails like this.
    pub fn next(&self, failure: Failure) {
        self.fail(Scope::All, failure);
    }

    /// The next message to this chat fails like this.
    pub fn next_in(&self, chat: i64, failure: Failure) {
        self.fail(Scope::Chat(chat), failure);
    }

    /// Every further message to this chat fails like this.
    pub fn always_in(&self, chat: i64, failure: Failure) {
        self.fail_always(Scope::Chat(chat), failure);
    }

    /// Every call is answered, truthfully, after this long.
    pub fn takes(&self, delay: Duration) {
        self.fail_always(Scope::All, Failure::Hang { delay, delivered: true });
    }

    pub fn calls_in(&self, chat: i64) -> usize {
        self.sent().iter().filter(|call| call.chat_id == chat).count()
    }

    /// What the people in this chat read, in order, with its marks.
    pub fn read_in(&self, chat: i64) -> Vec<String> {
        self.delivered().into_iter().filter(|call| call.chat_id == chat).map(|call| call.text).collect()
    }

    /// How often the limits were exceeded.
    pub fn told_off(&self) -> usize {
        self.sent().iter().filter(|call| call.status == 429).count()
    }

    /// The most calls that were under way at the same time, when each takes `takes`.
    pub fn most_at_once(&self, takes: Duration) -> usize {
        let calls = self.sent();
        let beside =
            |first: &Sent| calls.iter().filter(|call| call.order >= first.order && gap(first, call) < takes).count();
        calls.iter().map(beside).max().unwrap_or_default()
    }
}
