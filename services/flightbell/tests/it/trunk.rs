use serde_json::json;

use crate::town::{Town, register};

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_over_https_ends_as_a_message_in_the_chat() {
    let town = Town::build().await;
    town.world.aircraft(3);
    let interest = json!({"airport_code": "cdg", "metric": "live", "high_value": 5, "low_value": 1});
    register(&town.client, &town.base, "ada@example.org", 7, interest).await;

    town.world.aircraft(8);
    town.world.texts(|texts| texts.len() == 1).await;
    town.world.aircraft(5);
    town.world.texts(|texts| texts.len() == 2).await;
    town.world.aircraft(0);
    let texts = town.world.texts(|texts| texts.len() == 3).await;

    let conditions = [
        "The number of flights (8) exceeded the high threshold of 5.",
        "The number of flights (5) is back within the thresholds.",
        "The number of flights (0) is below the low threshold of 1.",
    ];
    for (text, condition) in texts.iter().zip(conditions) {
        assert!(text.contains(condition) && text.contains("LFPG") && text.contains("Charles de Gaulle"), "{text}");
    }

    // Whoever is forgotten hears nothing more, and what they watched is gone.
    let deleted = town.client.delete(format!("{}/user-manager/users/ada@example.org", town.base));
    let deleted = deleted.header("Idempotency-Key", "bye").send().await.expect("answered");
    assert_eq!(deleted.status(), 200);
    let gone = format!("{}/data-collector/interests/ada@example.org", town.base);
    assert_eq!(town.client.get(gone).send().await.expect("answered").status(), 404);
    town.close().await;
}
