//! The page that shows the chats as a messenger does. Everything that changes comes as JSON and is
//! put into the page as text, so that no message can bring markup of its own.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use http::{StatusCode, header};
use serde::Serialize;
use serde_json::json;

use super::{bot_api::BotApi, html::Entity, message::Sent};
use crate::{ClockFn, opensky, reply::Reply};

/// How many messages one answer holds.
const MOST_MESSAGES: usize = 500;

/// Nothing but what this server serves, and no page may frame it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What was recorded, and by whom.
#[derive(Clone, Debug, Serialize)]
pub struct Credit {
    /// What it is.
    pub what: String,
    /// Whose it is, and on which terms.
    pub credit: String,
}

/// What the page says around the chats.
#[derive(Clone)]
pub struct Page {
    /// The browser's title, and the page's.
    pub title: String,
    /// What a visitor must know first.
    pub headline: String,
    /// What is going on until `ends_at`.
    pub running: String,
    /// What is so from `ends_at` on.
    pub ended: String,
    /// What is replayed.
    pub recordings: Vec<Credit>,
    /// The time that the page shows.
    pub clock: ClockFn,
    /// How many times as fast as in reality that time passes.
    pub speed: u32,
    /// When the replay begins and when it has ended, on that clock; without them nothing is replayed.
    pub span: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// What chats are called; others are called by their ids.
    pub chat_names: BTreeMap<i64, String>,
}

impl Page {
    /// Of a replay of the recordings that are built in.
    #[must_use]
    pub fn replay(clock: ClockFn, speed: u32) -> Self {
        let credit = |what: &str, credit: &str| Credit { what: what.to_owned(), credit: credit.to_owned() };
        Self {
            title: "Flightbell demo".to_owned(),
            headline: "This is a replay of recorded traffic, not live data.".to_owned(),
            running: "Messages appear below as Flightbell sends them. Nothing leaves this machine.".to_owned(),
            ended: "The recording of Paris has ended: live traffic is unknown from now on, and Flightbell sends \
                    no live alert about what it does not know."
                .to_owned(),
            recordings: vec![
                credit(
                    "Live traffic: Paris, 7 October 2021, 12:10 to 14:55 UTC, as the OpenSky Network received it. \
                     Only flights from and to Paris were recorded.",
                    "OpenSky Network (Schäfer et al., IPSN 2014), from the samples of traffic by Xavier Olive, MIT",
                ),
                credit(
                    "Daily flights: San Francisco, 21 and 22 March 2020, moved to 5 and 6 October 2021; the \
                     newer day is published at 12:45 UTC. Aircraft addresses are derived from the flights.",
                    "SFO Museum, CDLA-Permissive-1.0",
                ),
            ],
            clock,
            speed,
            span: Some((opensky::begins_at(), opensky::ends_at())),
            chat_names: BTreeMap::new(),
        }
    }

    /// For tests: no replay, the system's time.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            title: "Telegram simulator".to_owned(),
            headline: "These messages did not go to Telegram.".to_owned(),
            running: String::new(),
            ended: String::new(),
            recordings: Vec::new(),
            clock: crate::system_clock(),
            speed: 1,
            span: None,
            chat_names: BTreeMap::new(),
        }
    }

    pub(super) fn chat_name(&self, chat_id: i64) -> String {
        self.chat_names.get(&chat_id).cloned().unwrap_or_else(|| format!("Chat {chat_id}"))
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    order: u64,
    chat_id: i64,
    message_id: i64,
    text: &'a str,
    entities: &'a [Entity],
    sent_at: DateTime<Utc>,
    clock_at: DateTime<Utc>,
}

/// `GET /`: the page, which is useful once its script has fetched the chats.
pub(super) async fn html(State(bot_api): State<Arc<BotApi>>) -> Response {
    let page = &bot_api.options.page;
    let badge = if page.span.is_some() { r#"<span class="badge">Replay</span> "# } else { "" };
    let text = include_str!("page/page.html")
        .replace("{badge}", badge)
        .replace("{title}", &escape(&page.title))
        .replace("{headline}", &escape(&page.headline));
    asset("text/html; charset=utf-8", text)
}

/// `GET /page.css`.
pub(super) async fn css() -> Response {
    asset("text/css; charset=utf-8", include_str!("page/page.css"))
}

/// `GET /page.js`.
pub(super) async fn js() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("page/page.js"))
}

/// `GET /api/chats?after=N`: what changed since the attempt with that number, and the time.
pub(super) async fn chats(State(bot_api): State<Arc<BotApi>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let after = query.strip_prefix("after=").and_then(|number| number.parse().ok()).unwrap_or(0);
    let page = &bot_api.options.page;
    let now = (page.clock)();
    let news = bot_api.sent.filter(|sent| sent.order > after && sent.is_in_chat());
    let newest = &news[news.len().saturating_sub(MOST_MESSAGES)..];
    let ended = page.span.is_some_and(|(_, end)| now >= end);
    let body = json!({
        "clock": now,
        "speed": page.speed,
        "span": page.span,
        "ended": ended,
        "note": if ended { &page.ended } else { &page.running },
        "recordings": page.recordings,
        "chat_names": page.chat_names,
        "messages": newest.iter().filter_map(shown).collect::<Vec<_>>(),
    });
    Reply::json(StatusCode::OK, &body).send().await
}

fn shown(sent: &Sent) -> Option<Shown<'_>> {
    Some(Shown {
        order: sent.order,
        chat_id: sent.chat_id,
        message_id: sent.message_id?,
        text: &sent.shown,
        entities: &sent.entities,
        sent_at: sent.received_at,
        clock_at: sent.clock_at,
    })
}

fn asset(kind: &'static str, text: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
