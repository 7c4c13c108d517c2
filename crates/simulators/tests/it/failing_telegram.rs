//! Telegram's bad days.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::telegram::{Failure, Scope};

use crate::TelegramClient;

fn message(chat_id: i64) -> Value {
    json!({ "chat_id": chat_id, "text": "hello" })
}

#[tokio::test]
async fn refusals_have_telegrams_shape_and_reach_no_chat() {
    let chats = TelegramClient::start().await;
    for (failure, code, words) in [
        (Failure::blocked(), 403, "blocked"),
        (Failure::deactivated(), 403, "deactivated"),
        (Failure::kicked(), 403, "kicked"),
        (Failure::not_a_member(), 403, "not a member"),
        (Failure::chat_not_found(), 400, "chat not found"),
        (Failure::cannot_parse(), 400, "can't parse entities"),
        (Failure::migrated_to(-1_001_234_567_890), 400, "upgraded to a supergroup"),
        (Failure::internal_error(), 500, "Internal Server Error"),
        (Failure::TooManyRequests { retry_after: 17 }, 429, "retry after 17"),
    ] {
        chats.telegram.fail(Scope::Chat(7), failure);
        let (status, answer) = chats.send(message(7)).await;
        assert_eq!((status, &answer["ok"], &answer["error_code"]), (code, &json!(false), &json!(code)));
        assert!(answer["description"].as_str().is_some_and(|text| text.contains(words)), "{answer}");
        match words {
            "retry after 17" => assert_eq!(answer["parameters"], json!({ "retry_after": 17 })),
            "upgraded to a supergroup" => {
                assert_eq!(answer["parameters"], json!({ "migrate_to_chat_id": -1_001_234_567_890_i64 }));
            }
            _ => assert!(answer.get("parameters").is_none(), "{answer}"),
        }
    }
    assert!(chats.telegram.delivered().is_empty());
    assert!(chats.telegram.sent().iter().all(|sent| sent.answered));
    assert_eq!(chats.send(message(7)).await.0, 200);
}

#[tokio::test]
async fn too_many_requests_are_told_in_the_header_too() {
    let chats = TelegramClient::start().await;
    chats.telegram.fail(Scope::All, Failure::TooManyRequests { retry_after: 17 });
    let answer = chats.client.post(chats.url("sendMessage")).json(&message(7)).send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"17".parse().expect("a value")));
}

#[tokio::test]
async fn one_chats_failures_are_its_own_and_come_before_everybodys() {
    let chats = TelegramClient::start().await;
    chats.telegram.fail_always(Scope::Chat(7), Failure::blocked());
    chats.telegram.fail_times(Scope::All, Failure::internal_error(), 1);
    assert_eq!(chats.send(message(7)).await.0, 403);
    assert_eq!(chats.send(message(8)).await.0, 500);
    assert_eq!(chats.send(message(8)).await.0, 200);
    assert_eq!(chats.send(message(7)).await.0, 403);
    chats.telegram.recover(Scope::Chat(7));
    assert_eq!(chats.send(message(7)).await.0, 200);
    let orders: Vec<_> = chats.telegram.sent().iter().map(|sent| (sent.order, sent.chat_id, sent.status)).collect();
    assert_eq!(orders, [(1, 7, 403), (2, 8, 500), (3, 8, 200), (4, 7, 403), (5, 7, 200)]);
}

#[tokio::test]
async fn a_message_may_arrive_though_its_answer_does_not() {
    let chats = TelegramClient::start().await;
    for (failure, delivered) in [
        (Failure::HangUp { delivered: true }, true),
        (Failure::HangUp { delivered: false }, false),
        (Failure::Hang { delay: Duration::from_secs(600), delivered: true }, true),
        (Failure::Hang { delay: Duration::from_secs(600), delivered: false }, false),
        (Failure::HalfAnswer, true),
    ] {
        let said = format!("{failure:?}");
        chats.telegram.fail(Scope::Chat(7), failure);
        let before = chats.telegram.delivered().len();
        let call = chats.client.post(chats.url("sendMessage")).json(&message(7)).timeout(Duration::from_millis(300));
        let whole = match call.send().await {
            Ok(response) => response.text().await.is_ok(),
            Err(_) => false,
        };
        assert!(!whole, "{said}");
        assert_eq!(chats.telegram.delivered().len() - before, usize::from(delivered), "{said}");
        let last = chats.telegram.sent().pop().expect("an attempt");
        assert!(!last.answered && last.is_in_chat() == delivered, "{said}: {last:?}");
    }
}

#[tokio::test]
async fn an_answer_may_be_garbage() {
    let chats = TelegramClient::start().await;
    for (status, delivered) in [(200, true), (200, false), (502, false)] {
        chats.telegram.fail(Scope::All, Failure::Garbage { status, delivered });
        let answer = chats.client.post(chats.url("sendMessage")).json(&message(7)).send().await.expect("an answer");
        assert_eq!(answer.status(), status);
        assert!(serde_json::from_str::<Value>(&answer.text().await.expect("a text")).is_err());
        let last = chats.telegram.sent().pop().expect("an attempt");
        assert!(!last.answered && last.is_in_chat() == delivered, "{last:?}");
    }
}

#[tokio::test]
async fn the_token_check_fails_by_itself() {
    let chats = TelegramClient::start().await;
    chats.telegram.fail(Scope::GetMe, Failure::internal_error());
    assert_eq!(chats.client.get(chats.url("getMe")).send().await.expect("an answer").status(), 500);
    assert_eq!(chats.send(message(7)).await.0, 200);
    assert_eq!(chats.client.get(chats.url("getMe")).send().await.expect("an answer").status(), 200);
}
