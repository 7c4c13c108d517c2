//! What other services ask over gRPC.

use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use uuid::Uuid;

use crate::test_env::TestEnv;

#[tokio::test]
async fn somebody_registered_is_known_in_any_spelling_and_with_the_right_id_only() {
    let env = TestEnv::new().await;
    env.service.register("ada@example.org").await;
    let id = env.id_of("ada@example.org").await.to_string();
    let check = async |email: &str, id: Option<&str>| env.service.check(email, id).await.expect("an answer");
    assert_eq!(check(" ADA@Example.org ", Some(&id)).await.user_id, id);
    let other = check("ada@example.org", Some(&Uuid::now_v7().to_string())).await;
    assert_eq!((other.exists, other.user_id.as_str()), (false, ""));
    assert!(!check("bob@example.org", None).await.exists);
    assert!(!check("bob@example.org", Some(&id)).await.exists);
}

#[tokio::test]
async fn a_contact_has_a_chat_once_it_was_told() {
    let env = TestEnv::new().await;
    let contact = async |id: Option<&str>| env.service.contact("ada@example.org", id).await.expect("an answer");
    assert!(!contact(None).await.exists);
    env.service.register("ada@example.org").await;
    let told = contact(None).await;
    assert_eq!((told.exists, told.telegram_chat_id), (true, None));
    env.service.link("ada@example.org", -1_001_234_567_890).await.expect(200);
    assert_eq!(contact(None).await.telegram_chat_id, Some(-1_001_234_567_890));
    let earlier = Uuid::now_v7().to_string();
    let told = contact(Some(&earlier)).await;
    assert_eq!((told.exists, told.telegram_chat_id), (false, None));
}

#[tokio::test]
async fn an_address_that_cannot_be_one_is_nobodys_and_a_wrong_id_a_mistake() {
    let TestEnv { service, .. } = TestEnv::new().await;
    for email in ["", "ada", "ada@", "a\u{0}@example.org", &"x".repeat(10_000)] {
        assert!(!service.check(email, None).await.expect("an answer").exists, "{email}");
        assert!(!service.contact(email, None).await.expect("an answer").exists, "{email}");
    }
    for id in ["", "7", "not-a-uuid"] {
        let refused = service.check("ada@example.org", Some(id)).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{id}");
        assert!(!refused.message().contains("ada"));
        assert!(service.contact("ada@example.org", Some(id)).await.is_err());
    }
}

#[tokio::test]
async fn the_health_service_answers() {
    let env = TestEnv::new().await;
    assert_eq!(env.service.health().await, [ServingStatus::Serving; 2]);
}
