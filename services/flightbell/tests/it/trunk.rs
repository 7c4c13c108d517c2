use serde_json::json;

use crate::deployment::{Brokers, Deployment, register};

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_over_https_ends_as_a_message_in_the_chat() {
    let deployment = Deployment::build().await;
    deployment.env.aircraft(3);
    let interest = json!({"airport_code": "cdg", "metric": "live", "high_value": 5, "low_value": 1});
    register(&deployment.client, &deployment.base, "ada@example.org", 7, interest).await;

    for service in ["user-manager", "data-collector"] {
        let hidden =
            deployment.client.get(format!("{}/{service}/metrics", deployment.base)).send().await.expect("answered");
        assert_eq!(hidden.status(), 404, "metrics are for the admin port of {service}");
    }

    deployment.env.aircraft(8);
    deployment.env.texts(|texts| texts.len() == 1).await;
    deployment.env.aircraft(5);
    deployment.env.texts(|texts| texts.len() == 2).await;
    deployment.env.aircraft(0);
    let texts = deployment.env.texts(|texts| texts.len() == 3).await;

    let conditions = [
        "The number of flights (8) exceeded the high threshold of 5.",
        "The number of flights (5) is back within the thresholds.",
        "The number of flights (0) is below the low threshold of 1.",
    ];
    for (text, condition) in texts.iter().zip(conditions) {
        assert!(text.contains(condition) && text.contains("LFPG") && text.contains("Charles de Gaulle"), "{text}");
    }

    // A user who is deleted hears nothing more, and what they watched is gone.
    let deleted = deployment.client.delete(format!("{}/user-manager/users/ada@example.org", deployment.base));
    let deleted = deleted.header("Idempotency-Key", "bye").send().await.expect("answered");
    assert_eq!(deleted.status(), 200);
    let gone = format!("{}/data-collector/interests/ada@example.org", deployment.base);
    assert_eq!(deployment.client.get(gone).send().await.expect("answered").status(), 404);
    deployment.close().await;
}

/// Who watches Paris in the test below: several, so that every broker leads some of them.
const CHATS: [i64; 5] = [11, 12, 13, 14, 15];

/// One broker is killed in the middle of a steady flow, and comes back later in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_among_three_loses_nothing_and_repeats_nothing() {
    let mut deployment = Deployment::build_on_three_brokers().await;
    deployment.env.aircraft(0);
    for chat in CHATS {
        let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
        register(&deployment.client, &deployment.base, &format!("{chat}@example.org"), chat, interest).await;
    }
    let mut expected = Vec::new();
    for round in 0..12 {
        let (full, empty) = (10 + round, round % 5);
        for (count, says) in [(full, "exceeded the high threshold of 5"), (empty, "is back within the thresholds")] {
            deployment.env.is_read(&deployment.client, &deployment.base, count).await;
            expected.push(format!("The number of flights ({count}) {says}."));
        }
        let Brokers::Three(cluster) = &mut deployment.brokers else { panic!("three brokers") };
        match round {
            3 => cluster.kill(0).await,
            8 => cluster.restart(0).await.expect("back again"),
            _ => {}
        }
    }
    for chat in CHATS {
        deployment.texts_of(chat, expected.len()).await;
    }
    // A repetition comes before the ledger has settled.
    deployment.settled().await;
    for chat in CHATS {
        let texts = deployment.texts_of(chat, expected.len()).await;
        assert_eq!(texts.len(), expected.len(), "chat {chat}: {texts:#?}");
        for (text, told) in texts.iter().zip(&expected) {
            assert!(text.contains(told), "chat {chat}: {told} is not in\n{text}");
        }
    }
    deployment.close().await;
}
