//! A service that is added as one folder and one line is everywhere where services are.

use serde_json::{Value, json};
use testkit::Process;

use crate::{
    deployment::{TestEnv, client, discovery, folder},
    program,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_one_folder_and_one_line_is_found_everywhere() {
    let (env, parent) = (TestEnv::new().await, folder());
    let data = parent.path().join("data");
    let directory = data.display().to_string();
    let mut environment = env.environment();
    environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
    let program = program::example("with_greeter").await;
    let arguments = ["up", "--data-dir", directory.as_str(), "--listen", "127.0.0.1:0"];
    let variables = || environment.iter().map(|(key, value)| (*key, value));
    let mut up = Process::start(&program, &arguments, variables());
    let base = up.says("ready ").await;
    let client = client(&data.join("tls/cert.pem")).await;

    // Behind the gateway, on a database of its own, with its documents.
    let greetings = format!("{base}/greeter/greetings");
    let greeted = client.post(&greetings).json(&json!({"name": "Ada"})).send().await.expect("answered");
    assert_eq!(greeted.status(), 201, "{:?}", greeted.text().await);
    let names: Vec<String> = client.get(&greetings).send().await.expect("answered").json().await.expect("names");
    assert_eq!(names, ["Ada"]);
    let document: Value =
        client.get(format!("{base}/greeter/openapi.json")).send().await.expect("answered").json().await.expect("JSON");
    assert!(document["paths"].get("/greetings").is_some(), "{document}");

    // In addresses.json, /readyz and /metrics.
    let addresses = local_servers::Addresses::read(&data).expect("readable").expect("it runs");
    assert!(addresses.databases["greeter"].contains("greeter"));
    let admin = async |path: &str| {
        let answer = client.get(format!("http://{}{path}", addresses.admin)).send().await.expect("answered");
        answer.text().await.expect("text")
    };
    let ready: Value = serde_json::from_str(&admin("/readyz").await).expect("a report");
    let services: Vec<_> = ready["services"].as_array().expect("services").iter().map(|one| &one["service"]).collect();
    assert!(services.contains(&&json!("greeter")), "{ready}");
    assert!(admin("/metrics").await.contains("service=\"greeter\""));

    // In doctor, and in the gateway's own help.
    let with = |arguments: Vec<String>| {
        let (program, environment) = (program.clone(), environment.clone());
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let variables = environment.iter().map(|(key, value)| (*key, value));
            let mut process = Process::start(&program, &arguments, variables);
            (process.code().await, process.out())
        }
    };
    let (code, found) = with(vec!["doctor".into(), "--data-dir".into(), directory.clone()]).await;
    assert_eq!(code, 0, "{found}");
    assert!(found.contains("greeter answers"), "{found}");
    let (code, help) = with(vec!["gateway".into(), "--help".into()]).await;
    assert_eq!(code, 0, "{help}");
    assert!(help.contains("--greeter <HOST:PORT>") && help.contains("[default: greeter:5000]"), "{help}");

    let log = up.stop().await;
    assert!(log.contains("greeter serves gRPC on"), "{log}");
}
