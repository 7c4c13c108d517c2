//! Kills between two effects, ends in the middle of a request, and starts that cannot be.

use rustix::process::Signal;
use serde_json::json;
use testkit::{free_addr, last_words};
use user_manager::MIGRATOR;

use crate::{
    collector::Collector,
    process::{Process, USER_MANAGER},
    test_env::{PATIENCE, TestEnv, ada},
};

const POINT: &str = "FLIGHTBELL_FAULT_POINT";

async fn process(env: &TestEnv, environment: &[(&str, &str)]) -> Process {
    Process::start(&env.database.url, env.collector.addr, environment).await
}

/// An environment whose only replica is the process that a test starts.
async fn world_without_a_replica() -> TestEnv {
    let env = TestEnv::new().await;
    env.service.stop().await;
    env
}

#[tokio::test]
async fn a_death_between_effect_and_commit_leaves_nothing_and_the_key_free() {
    let env = world_without_a_replica().await;
    let dying = process(&env, &[(POINT, "user-manager.effect-not-committed")]).await;
    let register = |process: &Process| process.call("POST", "/users").key("k").json(&ada("ada@example.org")).try_send();
    register(&dying).await.expect_err("it died before it answered");
    dying.itself.killed().await;
    assert_eq!(env.count("SELECT count(*) FROM users").await, 0);
    let next = process(&env, &[]).await;
    let answered = async || {
        let answer = register(&next).await.expect("an answer");
        // The dead process's transaction may hold the key until the server has noticed.
        assert!(
            answer.status == 201 && !answer.is_replayed() || answer.body["error"].to_string().contains("in progress")
        );
        answer.status == 201
    };
    testkit::wait_for("the key to be free", PATIENCE, answered).await;
    next.itself.stop().await;
}

#[tokio::test]
async fn a_death_between_deletion_and_relay_is_relayed_at_the_next_start_and_replays() {
    let env = TestEnv::new().await;
    env.service.register("ada@example.org").await;
    let id = env.id_of("ada@example.org").await.to_string();
    env.service.stop().await;
    // The relay is woken by the commit itself; where nothing answers it cannot be faster than death.
    let point = [(POINT, "user-manager.deleted-not-relayed")];
    let dying = Process::start(&env.database.url, free_addr(), &point).await;
    let delete = |process: &Process| process.call("DELETE", "/users/ada@example.org").key("k").try_send();
    delete(&dying).await.expect_err("it died before it answered");
    dying.itself.killed().await;
    assert_eq!(env.collector.calls(), []);

    let next = process(&env, &[]).await;
    env.settled().await;
    let calls = env.collector.calls();
    assert_eq!((calls.len(), calls[0].user_id.as_deref()), (1, Some(&*id)));
    let again = delete(&next).await.expect("an answer");
    again.says(200, "User deleted successfully");
    assert!(again.is_replayed());
    next.itself.stop().await;
}

#[tokio::test]
async fn a_death_between_call_and_record_repeats_the_call_with_the_same_id() {
    let env = TestEnv::new().await;
    env.service.register("ada@example.org").await;
    let id = env.id_of("ada@example.org").await.to_string();
    env.service.stop().await;
    let dying = process(&env, &[(POINT, "user-manager.relayed-not-recorded")]).await;
    // The answer and the death race each other.
    drop(dying.call("DELETE", "/users/ada@example.org").key("k").try_send().await);
    dying.itself.killed().await;
    assert_eq!(env.collector.calls().len(), 1);

    let next = process(&env, &[]).await;
    // Between the two, the person registers again.
    next.call("POST", "/users").key("again").json(&ada("ada@example.org")).send().await.expect(201);
    env.settled().await;
    let calls = env.collector.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.user_id.as_deref() == Some(&id)), "{calls:?}");
    next.call("GET", "/users/ada@example.org").send().await.expect(200);
    next.itself.stop().await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_process_ends() {
    let env = world_without_a_replica().await;
    let process = process(&env, &[]).await;
    let mut other = env.database.pool.begin().await.expect("a transaction");
    let insert =
        "INSERT INTO users (id, email, first_name, last_name) VALUES (gen_random_uuid(), 'ada@example.org', 'A', 'L')";
    sqlx::query(insert).execute(&mut *other).await.expect("a row");
    let register = process.call("POST", "/users").key("k").json(&ada("ada@example.org")).send();
    let stopping = async {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        testkit::wait_for("the call to wait", PATIENCE, async || env.count(waiting).await == 1).await;
        process.itself.signal(Signal::TERM);
        let unready = async || testkit::readyz(process.admin).await.contains("\"status\":\"stopping\"");
        testkit::wait_for("the process to stop taking", PATIENCE, unready).await;
        other.rollback().await.expect("a rollback");
    };
    let (answer, ()) = futures::join!(register, stopping);
    answer.says(201, "User created successfully");
    process.itself.clean_end().await;
    assert_eq!(env.count("SELECT count(*) FROM users").await, 1);
}

#[tokio::test]
async fn nothing_personal_reaches_the_log() {
    let env = world_without_a_replica().await;
    let process = process(&env, &[("RUST_LOG", "debug")]).await;
    let mut user = ada("secret.person@example.org");
    user["first_name"] = json!("Confidentia");
    user["tax_code"] = json!("HUSHHUSH1");
    user["iban"] = json!("IT60X0542811101000000123456");
    for key in ["1", "2"] {
        drop(process.call("POST", "/users").key(key).json(&user).send().await);
        let chat = json!({"email": "secret.person@example.org", "telegram_chat_id": 987_654_321});
        drop(process.call("POST", "/users/telegram").key(key).json(&chat).send().await);
        let change = json!({"last_name": "Confidentia", "tax_code": "HUSHHUSH2"});
        drop(process.call("PATCH", "/users/secret.person@example.org").json(&change).send().await);
        drop(process.call("GET", "/users/secret.person@example.org").send().await);
        drop(process.call("GET", "/users/secret.person@").send().await);
        drop(
            process
                .call("POST", "/users")
                .key(key)
                .bytes("application/json", "{\"email\":\"secret.person")
                .send()
                .await,
        );
    }
    env.collector.fail([crate::collector::Fault::Refused(tonic::Code::Internal)]);
    drop(process.call("DELETE", "/users/secret.person@example.org").key("d").send().await);
    env.settled().await;
    let log = process.itself.stop().await;
    assert!(log.contains("/users/{email}") && log.contains("tell data-collector of a deletion"), "{log}");
    for secret in ["secret.person", "onfidentia", "HUSH", "IT60", "987654321"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn every_setting_that_is_missing_or_wrong_is_told_and_nothing_is_bound() {
    let (code, words) = last_words(USER_MANAGER, &[]).await;
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("DATABASE_URL") && words.contains("DATA_COLLECTOR_GRPC_URL"), "{words}");

    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = held.local_addr().expect("an address").to_string();
    let (code, words) = last_words(
        USER_MANAGER,
        &[
            // Were anything bound, this address, which is taken, would be what it complains of.
            ("ADMIN_ADDR", &addr),
            ("HTTP_ADDR", "nowhere"),
            ("GRPC_ADDR", "50051"),
            ("DATABASE_URL", "mysql://root:hush@localhost/x"),
            ("DATA_COLLECTOR_GRPC_URL", "data-collector:50052"),
            ("LOG_FORMAT", "xml"),
        ],
    )
    .await;
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("5 settings cannot be used"), "{words}");
    assert!(!words.contains("hush") && !words.contains(&addr), "{words}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let database = testkit::database(&MIGRATOR).await;
    let collector = Collector::start().await;
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = held.local_addr().expect("an address").to_string();
    let (code, words) = last_words(
        USER_MANAGER,
        &[
            ("DATABASE_URL", &database.url),
            ("DATA_COLLECTOR_GRPC_URL", &format!("http://{}", collector.addr)),
            ("HTTP_ADDR", &addr),
            ("GRPC_ADDR", &free_addr().to_string()),
            ("ADMIN_ADDR", &free_addr().to_string()),
            ("RUST_LOG", "off"),
        ],
    )
    .await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains(&addr), "{words}");
}
