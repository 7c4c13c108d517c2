//! The page that shows the chats.

use serde_json::{Value, json};
use simulators::telegram::{Failure, Options, Page, Scope};

use crate::{ClockControl, TelegramClient};

async fn news(chats: &TelegramClient, after: u64) -> Value {
    let url = format!("{}/api/chats?after={after}", chats.telegram.url());
    chats.client.get(url).send().await.expect("an answer").json().await.expect("JSON")
}

#[tokio::test]
async fn the_page_says_first_that_it_is_a_replay_and_needs_nothing_from_outside() {
    let clock = ClockControl::new("2021-10-07T12:10:00Z");
    let mut page = Page::replay(clock.clock(), 60);
    page.title = "A <demo> & \"more\"".to_owned();
    let chats = TelegramClient::start_with(Options::new(page)).await;
    let answer = chats.client.get(chats.telegram.url()).send().await.expect("an answer");
    let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("http"), "{policy}");
    let html = answer.text().await.expect("a text");
    assert!(html.contains("This is a replay of recorded traffic, not live data."), "{html}");
    assert!(html.contains("<title>A &lt;demo&gt; &amp; &quot;more&quot;</title>"), "{html}");
    // Whether there is a message is known once the script has asked.
    assert!(html.contains("Connecting to Flightbell") && !html.contains("No message yet"), "{html}");
    for asset in ["page.css", "page.js"] {
        assert!(html.contains(asset));
        let url = format!("{}/{asset}", chats.telegram.url());
        let text = chats.client.get(url).send().await.expect("an answer").text().await.expect("a text");
        assert!(!text.contains("//cdn") && !text.contains("@import"), "{asset}");
        assert!(!text.contains("innerHTML"), "messages are put in as text");
    }
}

#[tokio::test]
async fn messages_appear_as_they_come_and_only_those_that_reached_a_chat() {
    let clock = ClockControl::new("2021-10-07T13:18:00Z");
    let mut page = Page::replay(clock.clock(), 60);
    page.chat_names.insert(7, "Ada".to_owned());
    let chats = TelegramClient::start_with(Options::new(page)).await;
    assert_eq!(news(&chats, 0).await["messages"], json!([]));
    chats.send(json!({ "chat_id": 7, "text": "<b>LFPG</b>", "parse_mode": "HTML" })).await;
    chats.telegram.fail(Scope::All, Failure::blocked());
    chats.send(json!({ "chat_id": 8, "text": "nobody sees this" })).await;
    chats.send(json!({ "chat_id": 8, "text": "<script>alert(1)</script>" })).await;

    let all = news(&chats, 0).await;
    assert_eq!(all["chat_names"], json!({ "7": "Ada" }));
    let messages = all["messages"].as_array().expect("messages");
    assert_eq!(messages.len(), 2);
    assert_eq!((&messages[0]["text"], &messages[0]["clock_at"]), (&json!("LFPG"), &json!("2021-10-07T13:18:00Z")));
    assert_eq!(messages[0]["entities"][0]["type"], "bold");
    assert_eq!((&messages[1]["order"], &messages[1]["text"]), (&json!(3), &json!("<script>alert(1)</script>")));
    assert_eq!(news(&chats, 1).await["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(news(&chats, 3).await["messages"], json!([]));
}

#[tokio::test]
async fn the_page_tells_clock_speed_and_recordings_and_that_live_is_unknown_after_the_end() {
    let clock = ClockControl::new("2021-10-07T14:54:59Z");
    let chats = TelegramClient::start_with(Options::new(Page::replay(clock.clock(), 60))).await;
    let running = news(&chats, 0).await;
    assert_eq!((&running["clock"], &running["speed"]), (&json!("2021-10-07T14:54:59Z"), &json!(60)));
    assert_eq!((&running["ended"], &running["span"][1]), (&json!(false), &json!("2021-10-07T14:55:00Z")));
    let recordings = running["recordings"].to_string();
    assert!(recordings.contains("Paris") && recordings.contains("San Francisco"), "{recordings}");
    clock.set("2021-10-07T14:55:00Z");
    let ended = news(&chats, 0).await;
    assert_eq!(ended["ended"], true);
    assert!(ended["note"].as_str().is_some_and(|note| note.contains("live traffic is unknown from now on")), "{ended}");
}
