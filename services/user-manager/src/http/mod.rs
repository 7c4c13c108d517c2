//! The HTTP edge.

mod access;
mod bodies;
mod decode;
mod extract;
mod users;

use std::sync::Arc;

use axum::http::StatusCode;
use http_edge::{Mutation, Problem, Routes, Settled, idempotency::Answer};
use runtime::fault;
use serde_json::json;
use sqlx::PgConnection;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    DbHandle,
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
struct App {
    db: DbHandle,
    notifier: Notifier,
}

/// Every call of the service, without its prefix. `notifier` is told of each chat.
#[must_use]
pub fn routes(db: DbHandle, notifier: Notifier) -> Routes {
    let (router, openapi) = OpenApiRouter::with_openapi(bodies::Api::openapi())
        .routes(routes!(users::register, users::list))
        .routes(routes!(users::show, users::change, users::delete))
        .routes(routes!(users::link_chat))
        .with_state(Arc::new(App { db, notifier }))
        .split_for_parts();
    Routes { router, openapi, access: &access::ROUTES }
}

impl App {
    fn store(&self) -> Result<&Store, Problem> {
        Ok(self.db.reached()?)
    }

    /// Has `effect` once, in one transaction with its key and its answer.
    async fn settle<F>(&self, mutation: Mutation<'_>, effect: F) -> Result<Settled, Problem>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<Answer, Problem>,
    {
        let settled = mutation.settle(self.store()?.pool(), async |connection| {
            let outcome = effect(connection).await;
            fault::point("user-manager.effect-not-committed");
            outcome
        });
        settled.await
    }
}

fn message(status: StatusCode, text: &str) -> Answer {
    Answer { status, body: json!({"message": text}) }
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "User not found")
}
