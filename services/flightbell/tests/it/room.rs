//! A service that is added as one folder and one line is everywhere where services are, and its topic is
//! everywhere where topics are.

use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::{Folder, Process, topic_io};

use crate::{
    deployment::{TestEnv, client, discovery, folder},
    program::{self, PATIENCE},
};

/// `flightbell up` with the made-up service of `examples/with_greeter`.
struct Room {
    up: Process,
    base: String,
    client: reqwest::Client,
    addresses: local_servers::Addresses,
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    directory: String,
    _parent: Folder,
    _env: TestEnv,
}

impl Room {
    async fn open() -> Self {
        let (env, parent) = (TestEnv::new().await, folder());
        let data = parent.path().join("data");
        let directory = data.display().to_string();
        let mut environment = env.environment();
        environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
        let program = program::example("with_greeter").await;
        let arguments = ["up", "--data-dir", directory.as_str(), "--listen", "127.0.0.1:0"];
        let mut up = Process::start(&program, &arguments, environment.iter().map(|(key, value)| (*key, value)));
        let base = up.says("ready ").await;
        let client = client(&data.join("tls/cert.pem")).await;
        let addresses = local_servers::Addresses::read(&data).expect("readable").expect("it runs");
        Self { up, base, client, addresses, program, environment, directory, _parent: parent, _env: env }
    }

    async fn get(&self, url: &str) -> String {
        self.client.get(url).send().await.expect("answered").text().await.expect("text")
    }

    async fn admin(&self, path: &str) -> String {
        self.get(&format!("http://{}{path}", self.addresses.admin)).await
    }

    async fn greeted(&self) -> Value {
        self.get(&format!("{}/greeter/greetings", self.base)).await.parse().expect("JSON")
    }

    /// What a command of the same program prints.
    async fn prints(&self, arguments: &[&str]) -> String {
        let variables = self.environment.iter().map(|(key, value)| (*key, value));
        let mut process = Process::start(&self.program, arguments, variables);
        let code = process.code().await;
        assert_eq!(code, 0, "{arguments:?}: {}", process.out());
        process.out()
    }

    /// Writes to the greeter's topic.
    async fn writes(&self, version: &str, value: &str) {
        let headers = [("ce_type", version.as_bytes())];
        topic_io::produce(&self.addresses.kafka, "greetings", Some(b"Grace"), Some(value.as_bytes()), &headers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_one_folder_and_one_line_is_found_everywhere() {
    let room = Room::open().await;
    // Behind the gateway, on a database of its own, with its documents.
    let greetings = format!("{}/greeter/greetings", room.base);
    let greeted = room.client.post(&greetings).json(&json!({"name": "Ada"})).send().await.expect("answered");
    assert_eq!(greeted.status(), 201, "{:?}", greeted.text().await);
    assert_eq!(room.greeted().await, json!(["Ada"]));
    let document: Value = room.get(&format!("{}/greeter/openapi.json", room.base)).await.parse().expect("JSON");
    assert!(document["paths"].get("/greetings").is_some(), "{document}");

    // Its database in addresses.json, its consumer in /readyz, its metrics in /metrics.
    assert!(room.addresses.databases["greeter"].contains("greeter"));
    let ready: Value = room.admin("/readyz").await.parse().expect("a report");
    let services = ready["services"].as_array().expect("services");
    let greeter = services.iter().find(|one| one["service"] == "greeter").expect("the greeter");
    assert!(greeter["parts"].to_string().contains("consumer of greetings as greeter"), "{ready}");
    assert!(room.admin("/metrics").await.contains("service=\"greeter\""));

    its_topic_is_made_read_and_shown(&room).await;

    // In doctor, and in the gateway's own help.
    let found = room.prints(&["doctor", "--data-dir", &room.directory]).await;
    assert!(found.contains("greeter answers"), "{found}");
    assert!(found.contains("our topics are there: to-alert-system, to-notifier, greetings"), "{found}");
    let help = room.prints(&["gateway", "--help"]).await;
    assert!(help.contains("--greeter <HOST:PORT>") && help.contains("[default: greeter:5000]"), "{help}");

    let log = room.up.stop().await;
    let settings = |line: &&str| line.contains("settings of ") && line.contains("greeter: ");
    assert!(log.lines().filter(settings).any(|line| line.contains("HTTP_ADDR=")), "{log}");
    assert!(log.contains("greeter has started"), "{log}");
    for protocol in ["HTTP", "gRPC"] {
        let said = format!("service=\"greeter\" protocol=\"{protocol}\"");
        assert_eq!(log.matches(&said).count(), 1, "{said} in\n{log}");
    }
}

/// `up` has created its topic; what comes on it is handled once, skipped, or a dead letter.
async fn its_topic_is_made_read_and_shown(room: &Room) {
    let greeting = json!({"event_id": uuid::Uuid::new_v4(), "name": "Grace"}).to_string();
    let version = "flightbell.example.greeting.v1";
    room.writes(version, &greeting).await;
    room.writes(version, &greeting).await;
    room.writes("flightbell.example.greeting.v2", "{}").await;
    room.writes(version, "hello").await;
    let settled = |outcome: &str, count: u32| {
        let labels = format!("group=\"greeter\",outcome=\"{outcome}\",topic=\"greetings\"");
        format!("consumer_records_settled_total{{{labels}}} {count}\n")
    };
    let expected = [settled("handled", 2), settled("skipped", 1), settled("dead_lettered", 1)];
    testkit::wait_for("what became of each record", PATIENCE, async || {
        let metrics = room.admin("/metrics").await;
        expected.iter().all(|line| metrics.contains(line))
    })
    .await;
    assert_eq!(room.greeted().await, json!(["Ada", "Grace"]));
    let letters = room.prints(&["dlq", "list", "--data-dir", &room.directory]).await;
    assert!(letters.contains("greetings/greeter: 1 dead letters"), "{letters}");
    assert!(letters.contains("it is not a greeting") && letters.contains("to-notifier/notifier: 0"), "{letters}");
}
