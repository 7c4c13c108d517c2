//! Telegram's Bot API on a good day, and its limits.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::telegram::{Limits, Options, Page};

use crate::{SOON, TelegramClient};

#[tokio::test]
async fn a_message_is_answered_with_a_message() {
    let chats = TelegramClient::start().await;
    let (status, answer) =
        chats.send(json!({ "chat_id": 7, "text": "<b>LFPG</b> &amp; co", "parse_mode": "HTML" })).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)));
    let message = &answer["result"];
    assert_eq!((&message["message_id"], &message["text"]), (&json!(1), &json!("LFPG & co")));
    assert_eq!(message["chat"], json!({ "id": 7, "type": "private", "first_name": "Chat 7" }));
    assert_eq!(message["entities"], json!([{ "type": "bold", "offset": 0, "length": 4 }]));
    assert!(message["date"].as_i64().is_some_and(|date| date > 1_600_000_000));

    let sent = chats.telegram.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].order, sent[0].chat_id, sent[0].message_id), (1, 7, Some(1)));
    assert_eq!((sent[0].text.as_str(), sent[0].shown.as_str()), ("<b>LFPG</b> &amp; co", "LFPG & co"));
    assert!(sent[0].is_in_chat() && sent[0].answered && sent[0].status == 200);
}

#[tokio::test]
async fn fields_may_come_as_a_form_or_in_the_query_and_methods_in_any_case() {
    let chats = TelegramClient::start().await;
    let form = [("chat_id", "-1001234567890"), ("text", "a form")];
    let answer = chats.client.post(chats.url("SendMessage")).form(&form).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["result"]["chat"]["type"], "supergroup");
    let url = chats.url("sendmessage?chat_id=7&text=a+query");
    assert_eq!(chats.client.get(url).send().await.expect("an answer").status(), 200);
    let (status, _) = chats.send(json!({ "chat_id": "8", "text": "an id as text" })).await;
    assert_eq!(status, 200);
    let texts: Vec<_> = chats.telegram.delivered().into_iter().map(|sent| sent.text).collect();
    assert_eq!(texts, ["a form", "a query", "an id as text"]);
    let bot: Value = chats.client.get(chats.url("getMe")).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(bot["result"]["is_bot"], true);
}

#[tokio::test]
async fn a_wrong_token_and_an_unknown_method_are_refused() {
    let chats = TelegramClient::start().await;
    let wrong = format!("{}/bot123:wrong/sendMessage", chats.telegram.url());
    let answer = chats.client.post(wrong).json(&json!({ "chat_id": 7, "text": "x" })).send().await.expect("an answer");
    assert_eq!(answer.status(), 401);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body, json!({ "ok": false, "error_code": 401, "description": "Unauthorized" }));
    let unknown = chats.client.post(chats.url("sendCake")).send().await.expect("an answer");
    assert_eq!(unknown.status(), 404);
    assert!(chats.telegram.sent().is_empty());
}

#[tokio::test]
async fn bad_messages_are_refused_in_telegrams_words() {
    let chats = TelegramClient::start().await;
    let long = "x".repeat(4097);
    for (body, expected) in [
        (json!({ "chat_id": 7, "text": "" }), "Bad Request: message text is empty"),
        (json!({ "chat_id": 7 }), "Bad Request: message text is empty"),
        (json!({ "chat_id": 7, "text": long }), "Bad Request: message is too long"),
        (json!({ "text": "x" }), "Bad Request: chat_id is empty"),
        (json!({ "chat_id": "@nobody", "text": "x" }), "Bad Request: chat not found"),
        (
            json!({ "chat_id": 7, "text": "5 < 6", "parse_mode": "HTML" }),
            "Bad Request: can't parse entities: Unclosed start tag at byte offset 2",
        ),
        (json!({ "chat_id": 7, "text": "x", "parse_mode": "MarkdownV2" }), "Bad Request: unsupported parse_mode"),
    ] {
        let (status, answer) = chats.send(body).await;
        assert_eq!((status, &answer["error_code"]), (400, &json!(400)), "{expected}");
        assert_eq!(answer["description"], expected);
    }
    assert!(chats.telegram.delivered().is_empty());
    assert!(chats.telegram.sent().iter().all(|sent| sent.answered && sent.status == 400));
}

#[tokio::test]
async fn limits_are_kept_where_they_are_asked_for() {
    let limits =
        Limits { chat_burst: 2, group_messages: 1, group_window: Duration::from_secs(60), ..Limits::default() };
    let chats = TelegramClient::start_with(Options { limits: Some(limits), ..Options::new(Page::plain()) }).await;
    let mut told = Vec::new();
    for chat_id in [7, 7, 7, 8, -9, -9] {
        let (status, answer) = chats.send(json!({ "chat_id": chat_id, "text": "x" })).await;
        told.push((status, answer["parameters"]["retry_after"].as_u64()));
    }
    assert_eq!(told[..2], [(200, None), (200, None)]);
    assert_eq!(told[2], (429, Some(1)));
    assert_eq!(told[3..5], [(200, None), (200, None)]);
    assert_eq!((told[5].0, told[5].1.is_some_and(|seconds| seconds > 50)), (429, true));
    assert_eq!(chats.telegram.delivered().len(), 4);
}

#[tokio::test]
async fn a_test_waits_for_messages() {
    let chats = TelegramClient::start().await;
    let (waited, _, _) = tokio::join!(
        chats.telegram.wait_for_delivered(SOON, 2),
        chats.send(json!({ "chat_id": 7, "text": "one" })),
        chats.send(json!({ "chat_id": 7, "text": "two" })),
    );
    assert_eq!(waited.expect("both").len(), 2);
    let error = chats.telegram.wait_for_delivered(Duration::from_millis(1), 3).await.expect_err("two only");
    assert!(error.to_string().contains("one"), "{error}");
}
