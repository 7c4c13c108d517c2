//! The HTTP edge.

mod decode;
mod documents;
mod extract;
mod users;

use axum::http::{Method, StatusCode};
use serde_json::json;
use shell::http::{
    Problem, Routes,
    idempotency::{self, Answer, Begun, Fingerprint, Key},
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Stored,
    notifier::Notifier,
    store::{CHAT_TAKEN, EMAIL_TAKEN, Store, TAX_CODE_TAKEN},
};

/// What a broken constraint means to the caller.
const TAKEN: [(&str, StatusCode, &str); 3] = [
    (EMAIL_TAKEN, StatusCode::CONFLICT, "User already exists"),
    (TAX_CODE_TAKEN, StatusCode::CONFLICT, "Tax code is already in use"),
    (CHAT_TAKEN, StatusCode::CONFLICT, "Telegram chat ID is already in use"),
];

/// What every call is handed.
#[derive(Clone)]
struct App {
    stored: Stored,
    notifier: Notifier,
}

/// Every call of the service, without its prefix. `notifier` is told of each chat.
#[must_use]
pub fn routes(stored: Stored, notifier: Notifier) -> Routes {
    let (router, openapi) = OpenApiRouter::with_openapi(documents::Api::openapi())
        .routes(routes!(users::register, users::list))
        .routes(routes!(users::show, users::change, users::delete))
        .routes(routes!(users::link_chat))
        .with_state(App { stored, notifier })
        .split_for_parts();
    Routes { router, openapi }
}

impl App {
    fn store(&self) -> Result<&Store, Problem> {
        self.stored.reached()
    }

    /// Begins a mutation whose caller is known by `caller`'s e-mail address.
    async fn begin(
        &self,
        key: Option<Key>,
        caller: &str,
        (method, path, body): (Method, &str, &[u8]),
    ) -> Result<Begun, Problem> {
        idempotency::begin(self.store()?.pool(), key, Fingerprint { caller, method: &method, path, body }).await
    }
}

fn message(status: StatusCode, text: &str) -> Answer {
    Answer { status, body: json!({"message": text}) }
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "User not found")
}
