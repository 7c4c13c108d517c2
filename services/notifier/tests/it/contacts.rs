//! Where people can be reached, and what happens to alerts of those who cannot.

use std::time::{Duration, Instant};

use crate::world::{PATIENCE, World};

#[tokio::test]
async fn whoever_names_a_chat_later_gets_what_was_kept() {
    let world = World::new().await;
    let worker = world.start().await;
    let person = world.stranger();
    world.people.register(&person.email, None);
    world.tell(&person, &["one", "two"]).await;
    testkit::wait_for("a few looks", PATIENCE, async || world.people.questions() >= 3).await;
    assert_eq!(world.count("pending").await, 2);
    world.people.register(&person.email, Some(person.chat));
    world.wait_for_count("sent", 2).await;
    assert_eq!(world.telegram.calls_in(person.chat), 2);
    worker.stop().await;
}

#[tokio::test]
async fn without_a_chat_an_alert_is_kept_for_its_time_and_then_undeliverable() {
    let world = World::new().await;
    let worker = world.start().await;
    let person = world.stranger();
    world.people.register(&person.email, None);
    let begun = Instant::now();
    let ids = world.tell(&person, &["one", "two"]).await;
    for id in ids {
        world.wait_for_status(id, "undeliverable").await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    // Looked up now and then, not all the time.
    assert!(world.people.questions() <= 40, "{}", world.people.questions());
    assert!(world.telegram.sent().is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn alerts_for_somebody_who_is_gone_are_cancelled() {
    let world = World::new().await;
    let worker = world.start().await;
    let person = world.stranger();
    world.people.register(&person.email, None);
    let ids = world.tell(&person, &["one", "two"]).await;
    testkit::wait_for("a look", PATIENCE, async || world.people.questions() >= 1).await;
    world.people.delete(&person.email);
    for id in ids {
        world.wait_for_status(id, "cancelled").await;
    }
    assert!(worker.metric("notifications_sent_total", "outcome=\"cancelled\"") > 1.9);
    worker.stop().await;
}

#[tokio::test]
async fn while_user_manager_is_away_nothing_is_sent_and_no_schedule_moves() {
    let world = World::new().await;
    world.people.go_away(true);
    let worker = world.start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.extend(world.tell(&world.person(), &["one"]).await);
    }
    world.wait_for_count("pending", 5).await;
    testkit::wait_for("questions", PATIENCE, async || world.people.questions() >= 10).await;
    for id in ids {
        let (status, failures, due_in) = world.row(id).await.expect("a row");
        assert!(status == "pending" && failures == 0 && due_in <= 0.0, "{status} {failures} {due_in}");
    }
    let (ready, part) = worker.readiness("user-manager").await;
    assert!(ready && part.is_some_and(|(up, _)| !up));
    world.people.go_away(false);
    world.wait_for_count("sent", 5).await;
    assert!(worker.readiness("user-manager").await.1.is_some_and(|(up, _)| up));
    worker.stop().await;
}

#[tokio::test]
async fn one_person_whom_user_manager_stumbles_over_does_not_hold_the_others() {
    let world = World::new().await;
    let worker = world.start().await;
    let trouble = world.stranger();
    world.people.make_trouble_about(&trouble.email);
    let id = world.tell(&trouble, &["Wait."]).await[0];
    testkit::wait_for("a question", PATIENCE, async || world.people.questions() >= 1).await;
    for round in 1..=5 {
        world.tell(&world.person(), &["Fine."]).await;
        world.wait_for_count("sent", round).await;
    }
    assert_eq!(world.status(id).await.as_deref(), Some("pending"));
    world.people.register(&trouble.email, Some(trouble.chat));
    world.wait_for_status(id, "sent").await;
    worker.stop().await;
}
