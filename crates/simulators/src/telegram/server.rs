//! The addresses: the Bot API's, and the page's.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    routing::{any, get},
};
use bytes::Bytes;
use http::HeaderMap;

use super::{bot_api::BotApi, failure::refusal, fields::Fields, page};

pub(super) fn routes(bot_api: Arc<BotApi>) -> Router {
    let call = |State(bot_api): State<Arc<BotApi>>,
                Path((bot, method)): Path<(String, String)>,
                RawQuery(query): RawQuery,
                headers: HeaderMap,
                body: Bytes| async move {
        let fields = Fields::read(query.as_deref(), &headers, &body);
        bot_api.call(&bot, &method, fields).await
    };
    Router::new()
        .route("/", get(page::html))
        .route("/page.css", get(page::css))
        .route("/page.js", get(page::js))
        .route("/api/chats", get(page::chats))
        .route("/{bot}/{method}", any(call))
        .fallback(|| async { refusal(404, "Not Found", None).send().await })
        .with_state(bot_api)
}
