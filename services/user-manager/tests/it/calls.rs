//! Every row of the contract's table.

use serde_json::{Value, json};

use crate::test_env::{TestEnv, ada, fresh_key};

const IBAN: &str = "IT60 X054 2811 1010 0000 0123 456";

#[tokio::test]
async fn somebody_registers_and_is_shown_with_every_field() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let user = json!({"email": " Ada@Example.org ", "first_name": " Ada ", "last_name": "Lovelace",
        "tax_code": "lvl daa-15t50", "iban": IBAN, "telegram_chat_id": 7, "unknown": true});
    let answer = service.call("POST", "/users").key("k").json(&user).send().await;
    answer.says(201, "User created successfully");
    let shown = service.show("ADA@example.ORG").await.expect(200).body;
    let expected = json!({"email": "ada@example.org", "first_name": "Ada", "last_name": "Lovelace",
        "tax_code": "LVLDAA15T50", "iban": "IT60X0542811101000000123456", "telegram_chat_id": null});
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn what_may_be_left_out_is_null() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let user = json!({"email": "ada@example.org", "first_name": "Ada", "last_name": "L", "tax_code": null});
    service.call("POST", "/user-manager/users").key("k").json(&user).send().await.expect(201);
    let shown = service.call("GET", "/user-manager/users/ada@example.org").send().await.expect(200).body;
    assert_eq!(
        (&shown["tax_code"], &shown["iban"], &shown["telegram_chat_id"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn registering_needs_a_key_then_fields_then_a_free_address_and_tax_code() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let post = |body: Value| service.call("POST", "/users").json(&body);
    let with_code = |email: &str| {
        let mut user = ada(email);
        user["tax_code"] = json!("AB-1");
        user
    };
    post(json!({})).send().await.refuses(400, "Idempotency-Key header is required");
    post(ada("ada@example.org")).key("  ").send().await.refuses(400, "Idempotency-Key header is required");
    service
        .call("POST", "/users")
        .bytes("text/plain", "{")
        .send()
        .await
        .refuses(400, "Idempotency-Key header is required");
    for missing in ["email", "first_name", "last_name"] {
        for blank in [None, Some(Value::Null), Some(json!("")), Some(json!(" \t"))] {
            let mut user = ada("ada@example.org");
            // A field that is wrong is not what is told first.
            user["iban"] = json!(7);
            match blank {
                Some(blank) => user[missing] = blank,
                None => drop(user.as_object_mut().expect("an object").remove(missing)),
            }
            post(user).key(&fresh_key()).send().await.refuses(400, "Missing required fields");
        }
    }
    post(with_code("ada@example.org")).key("1").send().await.expect(201);
    post(with_code("ADA@example.org")).key("2").send().await.refuses(409, "User already exists");
    let mut other = with_code("bob@example.org");
    other["tax_code"] = json!("a b 1");
    post(other).key("3").send().await.refuses(409, "Tax code is already in use");
    // Without tax codes no user is in another's way.
    post(ada("cy@example.org")).key("4").send().await.expect(201);
    post(ada("dan@example.org")).key("5").send().await.expect(201);
}

#[tokio::test]
async fn everybody_is_listed_page_by_page_in_the_order_of_registration() {
    let TestEnv { service, .. } = TestEnv::new().await;
    assert_eq!(service.call("GET", "/users").send().await.expect(200).body, json!([]));
    let emails: Vec<_> = (0..5).map(|number| format!("user{number}@example.org")).collect();
    for email in &emails {
        service.register(email).await;
    }
    let (mut seen, mut path) = (Vec::new(), "users?limit=2".to_owned());
    loop {
        let page = service.call("GET", &format!("/user-manager/{path}")).send().await.expect(200);
        let users = page.body.as_array().expect("a plain array").clone();
        assert!(users.len() <= 2);
        seen.extend(users.iter().map(|user| user["email"].as_str().expect("an address").to_owned()));
        let Some(link) = page.headers.get("link") else { break };
        let link = link.to_str().expect("text");
        assert!(!link.contains('@'), "{link}");
        path = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).expect("a link").to_owned();
    }
    assert_eq!(seen, emails);
    let all = service.call("GET", "/users").send().await.expect(200);
    assert_eq!((all.body.as_array().map(Vec::len), all.headers.get("link")), (Some(5), None));
    assert_eq!(all.body[0].as_object().expect("an object").len(), 6, "{}", all.body[0]);
}

#[tokio::test]
async fn a_page_that_cannot_be_one_is_refused() {
    let TestEnv { service, .. } = TestEnv::new().await;
    for query in ["limit=0", "limit=1001", "limit=-1", "limit=many", "limit=", "cursor=", "cursor=7", "cursor=a@b.c"] {
        service.call("GET", &format!("/users?{query}")).send().await.refuses(422, "Validation failed");
    }
}

#[tokio::test]
async fn somebody_unknown_is_not_found_whatever_is_asked() {
    let TestEnv { service, .. } = TestEnv::new().await;
    for email in
        ["nobody@example.org", "no-address", "%00@example.org", "%FF%FE", "a%20b@example.org", "a%2Fb@example.org"]
    {
        let path = format!("/users/{email}");
        service.call("GET", &path).send().await.refuses(404, "User not found");
        service.call("PATCH", &path).json(&json!({"first_name": "A"})).send().await.refuses(404, "User not found");
        service.call("DELETE", &path).key(&fresh_key()).send().await.refuses(404, "User not found");
        service.call("DELETE", &path).send().await.refuses(400, "Idempotency-Key header is required");
    }
    service.link("nobody@example.org", 7).await.refuses(404, "User not found");
}

#[tokio::test]
async fn a_change_touches_what_it_names_and_null_clears() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let mut user = ada("ada@example.org");
    user["tax_code"] = json!("AB1");
    user["iban"] = json!(IBAN);
    service.call("POST", "/users").key("k").json(&user).send().await.expect(201);
    let before = service.show("ada@example.org").await.body;
    let patch = |body: Value| service.call("PATCH", "/users/Ada@example.org").json(&body).send();
    assert_eq!(patch(json!({})).await.expect(200).body, before);
    assert_eq!(
        patch(json!({"unknown": 1, "telegram_chat_id": 3, "email": "ADA@example.org"})).await.expect(200).body,
        before
    );
    let after = patch(json!({"last_name": "Byron", "tax_code": null})).await.expect(200).body;
    let mut expected = before.clone();
    expected["last_name"] = json!("Byron");
    expected["tax_code"] = Value::Null;
    assert_eq!(after, expected);
    let after = patch(json!({"first_name": "A", "iban": null, "tax_code": "ab 2"})).await.expect(200).body;
    assert_eq!((&after["first_name"], &after["iban"], &after["tax_code"]), (&json!("A"), &Value::Null, &json!("AB2")));
    assert_eq!(service.show("ada@example.org").await.body, after);
}

#[tokio::test]
async fn a_change_that_cannot_be_is_refused_and_changes_nothing() {
    let TestEnv { service, .. } = TestEnv::new().await;
    for (email, code) in [("ada@example.org", "A1"), ("bob@example.org", "B1")] {
        let mut user = ada(email);
        user["tax_code"] = json!(code);
        service.call("POST", "/users").key(code).json(&user).send().await.expect(201);
    }
    let before = service.show("ada@example.org").await.body;
    let patch = |body: Value| service.call("PATCH", "/users/ada@example.org").json(&body).send();
    patch(json!({"first_name": "B", "tax_code": "b-1"})).await.refuses(409, "Tax code is already in use");
    for body in [
        json!({"first_name": null}),
        json!({"last_name": null}),
        json!({"first_name": ""}),
        json!({"tax_code": ""}),
        json!({"iban": "IT61X0542811101000000123456"}),
        json!({"email": "eve@example.org"}),
        json!({"email": null}),
    ] {
        patch(body.clone()).await.refuses(422, "Validation failed");
    }
    assert_eq!(service.show("ada@example.org").await.body, before);
    // A user's own code is no other user's.
    patch(json!({"tax_code": "a1"})).await.expect(200);
}

#[tokio::test]
async fn a_chat_is_linked_by_number_or_text_and_belongs_to_one_person() {
    let TestEnv { service, .. } = TestEnv::new().await;
    service.register("ada@example.org").await;
    service.register("bob@example.org").await;
    let link = |body: Value| service.call("POST", "/users/telegram").json(&body).send();
    for (chat, number) in
        [(json!(42), 42), (json!(" -1001234567890 "), -1_001_234_567_890i64), (json!("42"), 42), (json!(42), 42)]
    {
        let answer = link(json!({"email": "ADA@example.org", "telegram_chat_id": chat})).await;
        answer.says(200, "Telegram chat ID updated successfully");
        assert_eq!(service.show("ada@example.org").await.body["telegram_chat_id"], json!(number));
    }
    service.link("bob@example.org", 42).await.refuses(409, "Telegram chat ID is already in use");
    service.link("ada@example.org", 43).await.expect(200);
    service.link("bob@example.org", 42).await.expect(200);
}

#[tokio::test]
async fn a_chat_needs_a_person_and_a_number() {
    let TestEnv { service, .. } = TestEnv::new().await;
    service.register("ada@example.org").await;
    let link = |body: Value| service.call("POST", "/users/telegram").json(&body).send();
    for body in [
        json!({}),
        json!({"email": "ada@example.org"}),
        json!({"telegram_chat_id": 7}),
        json!({"email": null, "telegram_chat_id": 7}),
        json!({"email": "ada@example.org", "telegram_chat_id": null}),
        json!({"email": "ada@example.org", "telegram_chat_id": " "}),
    ] {
        link(body).await.refuses(400, "Missing email or telegram_chat_id");
    }
    for chat in [
        json!(0),
        json!("0"),
        json!(1.5),
        json!(1e3),
        json!(true),
        json!([7]),
        json!({"id": 7}),
        json!("@ada"),
        json!("+7"),
        json!(u64::MAX),
        json!("9223372036854775808"),
        json!("7\u{0}"),
    ] {
        let answer = link(json!({"email": "ada@example.org", "telegram_chat_id": chat})).await;
        answer.refuses(422, "Validation failed");
        assert_eq!(answer.body["errors"][0]["field"], "telegram_chat_id");
    }
    assert_eq!(service.show("ada@example.org").await.body["telegram_chat_id"], Value::Null);
}

#[tokio::test]
async fn somebody_deleted_is_gone_and_leaves_room_for_others() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let mut user = ada("ada@example.org");
    user["tax_code"] = json!("AB1");
    service.call("POST", "/users").key("k").json(&user).send().await.expect(201);
    service.link("ada@example.org", 42).await.expect(200);
    service.delete("ADA@example.org").await.says(200, "User deleted successfully");
    service.show("ada@example.org").await.refuses(404, "User not found");
    service.delete("ada@example.org").await.refuses(404, "User not found");
    user["email"] = json!("eve@example.org");
    service.call("POST", "/users").key("k").json(&user).send().await.expect(201);
    service.link("eve@example.org", 42).await.expect(200);
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let TestEnv { service, .. } = TestEnv::new().await;
    for (method, path) in
        [("PUT", "/users"), ("DELETE", "/users"), ("POST", "/users/a@b.cd"), ("GET", "/users/telegram")]
    {
        service.call(method, path).send().await.refuses(405, "Method not allowed");
    }
    for path in ["/", "/user", "/users/", "/users/a@b.cd/x", "/user-manager/metrics", "/user-manager/nothing"] {
        service.call("GET", path).send().await.refuses(404, "Not found");
    }
}
