//! Every service is asked to end on its worst day: in the middle of its work, and nothing it needs answers.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use testkit::{Frozen, STOP_LIMIT};

use crate::{
    deployment::{Deployment, post, register},
    up::UpInstance,
};

const CHATS: [i64; 3] = [21, 22, 23];

#[tokio::test(flavor = "multi_thread")]
async fn services_under_load_end_in_time_though_kafka_and_postgresql_are_frozen_and_nothing_is_lost() {
    let mut deployment = Deployment::build().await;
    deployment.env.aircraft(3);
    for chat in CHATS {
        let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
        register(&deployment.client, &deployment.base, &format!("{chat}@example.org"), chat, interest).await;
    }
    deployment.env.aircraft(8);
    for chat in CHATS {
        deployment.texts_of(chat, 1).await;
    }
    deployment.settled().await;
    let frozen = deployment.freeze_servers();
    deployment.env.aircraft(4);
    let (client, users) = (deployment.client.clone(), format!("{}/user-manager/users", deployment.base));
    let somebody = json!({"email": "ada@example.org", "first_name": "Ada", "last_name": "Lovelace"});
    let mut waiting = Box::pin(post(&client, &users, &somebody));
    let answer = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
    assert!(answer.is_err(), "a request is under way: {answer:?}");

    for (service, took, code) in deployment.terminate().await {
        println!("{service} ended with {code} after {took:.1?}");
        assert!(took < STOP_LIMIT && code == 0, "{service} ended with {code} after {took:.1?}");
    }
    drop(frozen);

    deployment.start_services().await;
    assert_eq!(waiting.await, 201);
    for chat in CHATS {
        let texts = deployment.texts_of(chat, 2).await;
        assert!(texts[0].contains("(8) exceeded the high threshold of 5"), "{texts:#?}");
        assert!(texts[1].contains("(4) is back within the thresholds"), "{texts:#?}");
    }
    // A repetition comes before the ledger has settled.
    deployment.settled().await;
    for chat in CHATS {
        let texts = deployment.texts_of(chat, 2).await;
        assert_eq!(texts.len(), 2, "{texts:#?}");
    }
    deployment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_ends_in_time_though_its_private_servers_are_frozen() {
    let mut instance = UpInstance::build().await;
    let frozen = [instance.pid_of("Kafka").await, instance.pid_of("PostgreSQL").await].map(Frozen::freeze);
    let begun = Instant::now();
    instance.program.signal(Signal::TERM);
    let code = instance.program.code().await;
    assert!(begun.elapsed() < STOP_LIMIT && code == 0, "up ended with {code} after {:.1?}", begun.elapsed());
    // Nothing stands still in its folder any more, which would hold up the next start.
    instance.start_again().await;
    drop(frozen);
    instance.program.stop().await;
}
