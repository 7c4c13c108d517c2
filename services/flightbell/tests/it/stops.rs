//! Every service is asked to end on its worst day: in the middle of its work, and nothing it needs answers.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use testkit::Frozen;

use crate::{
    town::{Town, post, register},
    up::House,
};

/// How long the house allows an orderly stop to take.
const STOP_LIMIT: Duration = Duration::from_secs(20);

const CHATS: [i64; 3] = [21, 22, 23];

#[tokio::test(flavor = "multi_thread")]
async fn services_under_load_end_in_time_though_kafka_and_postgresql_are_frozen_and_nothing_is_lost() {
    let mut town = Town::build().await;
    town.world.aircraft(3);
    for chat in CHATS {
        let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
        register(&town.client, &town.base, &format!("{chat}@example.org"), chat, interest).await;
    }
    town.world.aircraft(8);
    for chat in CHATS {
        town.texts_of(chat, 1).await;
    }
    town.settled().await;
    let frozen = town.freeze_servers();
    town.world.aircraft(4);
    let (client, users) = (town.client.clone(), format!("{}/user-manager/users", town.base));
    let somebody = json!({"email": "ada@example.org", "first_name": "Ada", "last_name": "Lovelace"});
    let mut waiting = Box::pin(post(&client, &users, &somebody));
    let answer = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
    assert!(answer.is_err(), "a request is under way: {answer:?}");

    for (service, took, code) in town.terminate().await {
        println!("{service} ended with {code} after {took:.1?}");
        assert!(took < STOP_LIMIT && code == 0, "{service} ended with {code} after {took:.1?}");
    }
    drop(frozen);

    town.start_services().await;
    assert_eq!(waiting.await, 201);
    for chat in CHATS {
        let texts = town.texts_of(chat, 2).await;
        assert!(texts[0].contains("(8) exceeded the high threshold of 5"), "{texts:#?}");
        assert!(texts[1].contains("(4) is back within the thresholds"), "{texts:#?}");
    }
    // A repetition comes before the ledger has settled.
    town.settled().await;
    for chat in CHATS {
        let texts = town.texts_of(chat, 2).await;
        assert_eq!(texts.len(), 2, "{texts:#?}");
    }
    town.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_ends_in_time_though_its_private_servers_are_frozen() {
    let mut house = House::build().await;
    let frozen = [house.pid_of("Kafka").await, house.pid_of("PostgreSQL").await].map(Frozen::freeze);
    let begun = Instant::now();
    house.program.signal(Signal::TERM);
    let code = house.program.code().await;
    assert!(begun.elapsed() < STOP_LIMIT && code == 0, "up ended with {code} after {:.1?}", begun.elapsed());
    // Nothing stands still in its folder any more, which would hold up the next start.
    house.start_again().await;
    drop(frozen);
    house.program.stop().await;
}
