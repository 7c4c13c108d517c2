//! What is sent twice happens once.

use serde_json::json;

use crate::test_env::{TestEnv, ada};

#[tokio::test]
async fn a_registration_sent_twice_is_answered_twice_and_happens_once() {
    let env = TestEnv::new().await;
    let send = || env.service.call("POST", "/users").key("k").json(&ada("ada@example.org")).send();
    let (first, second) = (send().await, send().await);
    assert!(!first.is_replayed() && second.is_replayed());
    second.says(201, "User created successfully");
    assert_eq!(env.count("SELECT count(*) FROM users").await, 1);
}

#[tokio::test]
async fn a_key_reused_for_anything_else_is_refused() {
    let TestEnv { service, .. } = TestEnv::new().await;
    service.call("POST", "/users").key("k").json(&ada("ada@example.org")).send().await.expect(201);
    let mut other = ada("ada@example.org");
    other["last_name"] = json!("Byron");
    let reused = "Idempotency-Key was already used for another request";
    service.call("POST", "/users").key("k").json(&other).send().await.refuses(422, reused);
    service.call("DELETE", "/users/ada@example.org").key("k").send().await.refuses(422, reused);
    let change = json!({"last_name": "Byron"});
    service.call("PATCH", "/users/ada@example.org").key("k").json(&change).send().await.refuses(422, reused);
    let chat = json!({"email": "ada@example.org", "telegram_chat_id": 7});
    service.call("POST", "/users/telegram").key("k").json(&chat).send().await.refuses(422, reused);
    // Another person's key is another key.
    service.call("POST", "/users").key("k").json(&ada("bob@example.org")).send().await.expect(201);
}

#[tokio::test]
async fn a_conflict_replays_as_a_conflict_even_when_its_cause_is_gone() {
    let TestEnv { service, .. } = TestEnv::new().await;
    service.register("ada@example.org").await;
    let send = || service.call("POST", "/users").key("k").json(&ada("ada@example.org")).send();
    send().await.refuses(409, "User already exists");
    service.delete("ada@example.org").await.expect(200);
    let again = send().await;
    again.refuses(409, "User already exists");
    assert!(again.is_replayed());
}

#[tokio::test]
async fn a_deletion_replays_and_never_reaches_the_next_registration() {
    let env = TestEnv::new().await;
    env.service.register("ada@example.org").await;
    let delete = |path: &'static str| env.service.call("DELETE", path).key("k").send();
    delete("/users/ada@example.org").await.says(200, "User deleted successfully");
    env.service.register("ada@example.org").await;
    let again = delete("/user-manager/users/ADA@example.org").await;
    again.says(200, "User deleted successfully");
    assert!(again.is_replayed());
    env.service.show("ada@example.org").await.expect(200);
    assert_eq!(env.count("SELECT count(*) FROM jobs").await, 1);
}

#[tokio::test]
async fn a_deletion_of_nobody_is_remembered_too() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let delete = || service.call("DELETE", "/users/ada@example.org").key("k").send();
    delete().await.refuses(404, "User not found");
    service.register("ada@example.org").await;
    let again = delete().await;
    again.refuses(404, "User not found");
    assert!(again.is_replayed());
}

#[tokio::test]
async fn changes_and_links_honour_a_key_when_it_is_sent() {
    let TestEnv { service, .. } = TestEnv::new().await;
    service.register("ada@example.org").await;
    let change = |name: &str, key: Option<&str>| {
        let call = service.call("PATCH", "/users/ada@example.org").json(&json!({"first_name": name}));
        key.into_iter().fold(call, |call, key| call.key(key)).send()
    };
    let first = change("One", Some("p")).await.expect(200);
    change("Two", None).await.expect(200);
    let again = change("One", Some("p")).await.expect(200);
    assert!(again.is_replayed());
    assert_eq!(again.body, first.body);
    assert_eq!(service.show("ada@example.org").await.body["first_name"], "Two");

    let chat = |number: i64| json!({"email": "ada@example.org", "telegram_chat_id": number});
    let link = |number: i64| service.call("POST", "/users/telegram").key("t").json(&chat(number)).send();
    link(1).await.expect(200);
    service.link("ada@example.org", 2).await.expect(200);
    assert!(link(1).await.is_replayed());
    assert_eq!(service.show("ada@example.org").await.body["telegram_chat_id"], 2);
}

#[tokio::test]
async fn an_effect_whose_caller_hung_up_before_the_commit_is_undone_and_its_key_free() {
    let env = TestEnv::new().await;
    // Another transaction registers the same address and has not committed: the call waits for it.
    let mut other = env.database.pool.begin().await.expect("a transaction");
    let insert =
        "INSERT INTO users (id, email, first_name, last_name) VALUES (gen_random_uuid(), 'ada@example.org', 'A', 'L')";
    sqlx::query(insert).execute(&mut *other).await.expect("a row");
    let send = || env.service.call("POST", "/users").key("k").json(&ada("ada@example.org"));
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    {
        let mut call = std::pin::pin!(send().send());
        tokio::select! {
            answer = &mut call => panic!("answered {answer:?}"),
            () = testkit::wait_for("the call to wait", crate::test_env::PATIENCE, async || env.count(waiting).await == 1) => {}
        }
        send().send().await.refuses(409, "Request with this Idempotency-Key is already in progress");
    }
    other.rollback().await.expect("a rollback");
    let again = async || match send().send().await {
        answer if answer.status == 409 => {
            answer.refuses(409, "Request with this Idempotency-Key is already in progress");
            assert!(answer.headers.contains_key("retry-after"));
            false
        }
        answer => {
            assert_eq!((answer.status, answer.is_replayed()), (201, false), "{}", answer.body);
            true
        }
    };
    testkit::wait_for("the key to be free", crate::test_env::PATIENCE, again).await;
    assert_eq!(env.count("SELECT count(*) FROM users").await, 1);
}
