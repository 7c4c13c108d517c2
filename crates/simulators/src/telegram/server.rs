//! The addresses: the Bot API's, and the page's.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    routing::{any, get},
};
use bytes::Bytes;
use http::HeaderMap;

use super::{desk::Desk, failure::refusal, fields::Fields, page};

pub(super) fn routes(desk: Arc<Desk>) -> Router {
    let call = |State(desk): State<Arc<Desk>>,
                Path((bot, method)): Path<(String, String)>,
                RawQuery(query): RawQuery,
                headers: HeaderMap,
                body: Bytes| async move {
        let fields = Fields::read(query.as_deref(), &headers, &body);
        desk.call(&bot, &method, fields).await
    };
    Router::new()
        .route("/", get(page::html))
        .route("/page.css", get(page::css))
        .route("/page.js", get(page::js))
        .route("/api/chats", get(page::chats))
        .route("/{bot}/{method}", any(call))
        .fallback(|| async { refusal(404, "Not Found", None).send().await })
        .with_state(desk)
}
