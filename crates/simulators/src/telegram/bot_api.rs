//! The Bot API: who calls, what goes wrong on purpose, what is remembered.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::response::Response;
use chrono::Utc;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Options, Scope,
    failure::{Failure, refusal, too_many_requests},
    fields::Fields,
    html::Shown,
    limits::Meter,
    message::{self, Sent},
};
use crate::{log::Log, reply::Reply, script::Script};

const MOST_SENT: usize = 200_000;

/// Everything that answers share.
pub(super) struct BotApi {
    pub(super) options: Options,
    pub(super) failures: Script<Scope, Failure>,
    pub(super) sent: Log<Sent>,
    begun: Instant,
    counters: Mutex<Counters>,
}

struct Counters {
    meter: Option<Meter>,
    attempts: u64,
    /// The last message's number in each chat.
    messages: HashMap<i64, i64>,
}

impl BotApi {
    pub(super) fn new(options: Options) -> Self {
        let counters = Counters { meter: options.limits.map(Meter::new), attempts: 0, messages: HashMap::new() };
        Self {
            options,
            failures: Script::new(),
            sent: Log::new(MOST_SENT),
            begun: Instant::now(),
            counters: Mutex::new(counters),
        }
    }

    pub(super) async fn call(&self, bot: &str, method: &str, fields: Result<Fields, String>) -> Response {
        let reply = match bot.strip_prefix("bot") {
            None => refusal(404, "Not Found", None),
            Some(token) if token != self.options.token => refusal(401, "Unauthorized", None),
            Some(_) => match (method.to_ascii_lowercase().as_str(), fields) {
                ("getme", Ok(_)) => self.get_me(),
                ("sendmessage", Ok(fields)) => self.send_message(&fields),
                ("getme" | "sendmessage", Err(problem)) => refusal(400, &problem, None),
                _ => refusal(404, "Not Found: method not found", None),
            },
        };
        reply.send().await
    }

    fn get_me(&self) -> Reply {
        let answer = Reply::json(StatusCode::OK, &json!({ "ok": true, "result": message::bot() }));
        match self.failures.next(&[Scope::GetMe]) {
            Some(failure) => failure.inject_fault(Some(answer)),
            None => answer,
        }
    }

    fn send_message(&self, fields: &Fields) -> Reply {
        let Some(chat_id) = fields.get("chat_id").filter(|id| !id.is_empty()) else {
            return refusal(400, "Bad Request: chat_id is empty", None);
        };
        // Names of public channels are no chats here.
        let Ok(chat_id) = chat_id.parse() else { return refusal(400, "Bad Request: chat not found", None) };
        let attempt = SendAttempt {
            chat_id,
            text: fields.get("text").unwrap_or_default(),
            parse_mode: fields.get("parse_mode").filter(|mode| !mode.is_empty()),
        };
        match self.failures.next(&[Scope::Chat(chat_id), Scope::All]) {
            Some(failure) if !failure.delivers() => {
                let answered = failure.is_answer();
                let reply = failure.inject_fault(None);
                self.remember(&attempt, Outcome { answered, ..Outcome::refused(&reply) }, &mut self.counters());
                reply
            }
            failure => self.deliver(&attempt, failure),
        }
    }

    /// Takes the message into the chat when limits and text allow it.
    fn deliver(&self, attempt: &SendAttempt<'_>, failure: Option<Failure>) -> Reply {
        let mut counters = self.counters();
        let taken = match &mut counters.meter {
            Some(meter) => meter.take(attempt.chat_id, self.begun.elapsed()).map_err(too_many_requests),
            None => Ok(()),
        };
        let checked = taken.and_then(|()| {
            message::check(attempt.text, attempt.parse_mode).map_err(|problem| refusal(400, &problem, None))
        });
        match checked {
            Err(reply) => {
                self.remember(attempt, Outcome::refused(&reply), &mut counters);
                reply
            }
            Ok(shown) => {
                let number = counters.messages.entry(attempt.chat_id).or_insert(0);
                *number += 1;
                let message_id = *number;
                let body = json!({ "ok": true, "result": self.message(attempt.chat_id, message_id, &shown) });
                let answer = Reply::json(StatusCode::OK, &body);
                let answered = failure.is_none();
                let reply = match failure {
                    Some(failure) => failure.inject_fault(Some(answer)),
                    None => answer,
                };
                let outcome = Outcome { shown, message_id: Some(message_id), status: reply.status.as_u16(), answered };
                self.remember(attempt, outcome, &mut counters);
                reply
            }
        }
    }

    fn message(&self, chat_id: i64, message_id: i64, shown: &Shown) -> Value {
        let mut message = json!({
            "message_id": message_id,
            "from": message::bot(),
            "chat": message::chat(chat_id, &self.options.page.chat_name(chat_id)),
            "date": Utc::now().timestamp(),
            "text": shown.text,
        });
        if !shown.entities.is_empty() {
            message["entities"] = json!(shown.entities);
        }
        message
    }

    /// Written while the counters are held, so that the order of the log is the order of the numbers.
    fn remember(&self, attempt: &SendAttempt<'_>, outcome: Outcome, counters: &mut Counters) {
        counters.attempts += 1;
        self.sent.push(Sent {
            order: counters.attempts,
            chat_id: attempt.chat_id,
            text: attempt.text.to_owned(),
            shown: outcome.shown.text,
            entities: outcome.shown.entities,
            parse_mode: attempt.parse_mode.map(str::to_owned),
            received_at: Utc::now(),
            clock_at: (self.options.page.clock)(),
            message_id: outcome.message_id,
            status: outcome.status,
            answered: outcome.answered,
        });
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SendAttempt<'a> {
    chat_id: i64,
    text: &'a str,
    parse_mode: Option<&'a str>,
}

/// What became of an attempt.
struct Outcome {
    shown: Shown,
    message_id: Option<i64>,
    status: u16,
    answered: bool,
}

impl Outcome {
    /// Told in one piece that it did not reach the chat.
    fn refused(reply: &Reply) -> Self {
        Self { shown: Shown::default(), message_id: None, status: reply.status.as_u16(), answered: true }
    }
}
