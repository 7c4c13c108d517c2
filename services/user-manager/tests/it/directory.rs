//! What other services ask over gRPC.

use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use uuid::Uuid;

use crate::world::World;

#[tokio::test]
async fn somebody_registered_is_known_in_any_spelling_and_with_the_right_id_only() {
    let world = World::new().await;
    world.service.register("ada@example.org").await;
    let id = world.id_of("ada@example.org").await.to_string();
    let check = async |email: &str, id: Option<&str>| world.service.check(email, id).await.expect("an answer");
    assert_eq!(check(" ADA@Example.org ", Some(&id)).await.user_id, id);
    let other = check("ada@example.org", Some(&Uuid::now_v7().to_string())).await;
    assert_eq!((other.exists, other.user_id.as_str()), (false, ""));
    assert!(!check("bob@example.org", None).await.exists);
    assert!(!check("bob@example.org", Some(&id)).await.exists);
}

#[tokio::test]
async fn a_contact_has_a_chat_once_it_was_told() {
    let world = World::new().await;
    let contact = async |id: Option<&str>| world.service.contact("ada@example.org", id).await.expect("an answer");
    assert!(!contact(None).await.exists);
    world.service.register("ada@example.org").await;
    let told = contact(None).await;
    assert_eq!((told.exists, told.telegram_chat_id), (true, None));
    world.service.link("ada@example.org", -1_001_234_567_890).await.expect(200);
    assert_eq!(contact(None).await.telegram_chat_id, Some(-1_001_234_567_890));
    let earlier = Uuid::now_v7().to_string();
    let told = contact(Some(&earlier)).await;
    assert_eq!((told.exists, told.telegram_chat_id), (false, None));
}

#[tokio::test]
async fn an_address_that_cannot_be_one_is_nobodys_and_a_wrong_id_a_mistake() {
    let World { service, .. } = World::new().await;
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
    let world = World::new().await;
    assert_eq!(world.service.health().await, [ServingStatus::Serving; 2]);
}
