//! `flightbell up` on servers that the operator runs.

use local_servers::{Addresses, orphans};
use serde_json::json;

use crate::{
    deployment::{TestEnv, client, folder, is_settled, register},
    program,
};

/// The keys of the databases that `up` is told.
const DATABASES: [&str; 4] =
    ["USER_MANAGER_DATABASE_URL", "DATA_COLLECTOR_DATABASE_URL", "ALERT_SYSTEM_DATABASE_URL", "NOTIFIER_DATABASE_URL"];

#[tokio::test(flavor = "multi_thread")]
async fn up_on_given_servers_starts_none_of_its_own_and_leaves_what_it_knows_with_them() {
    let (env, kafka) = (TestEnv::new().await, testkit::lone_kafka().await);
    let parent = folder();
    // Neither Kafka's jars nor Java could be found, so that a private Kafka could not even be tried.
    let nowhere = parent.path().join("nowhere").display().to_string();
    let mut environment = env.environment();
    environment.extend([("XDG_CACHE_HOME", nowhere.clone()), ("KAFKA_PARTITIONS", "3".to_owned())]);
    environment.push(("KAFKA_BROKER_URL", kafka.bootstrap.clone()));
    for key in DATABASES {
        environment.push((key, testkit::empty_database().await.url));
    }
    let ledger = environment.last().expect("a database").1.clone();

    let mut expected = 0;
    // The second time in another folder: everything that lasts is on the servers.
    for name in ["first", "second"] {
        let data = parent.path().join(name);
        let folder = data.display().to_string();
        let arguments = ["up", "--data-dir", folder.as_str(), "--listen", "127.0.0.1:0"];
        let mut program = program::start("flightbell", &arguments, &environment).await;
        let base = program.says("ready ").await;
        let client = client(&data.join("tls/cert.pem")).await;
        let addresses = Addresses::read(&data).expect("readable").expect("it runs");
        let ready = client.get(format!("http://{}/readyz", addresses.admin)).send().await.expect("answered");
        assert_eq!(ready.status(), 200, "{:?}", ready.text().await);
        assert_eq!(addresses.kafka, kafka.bootstrap);
        let written = std::fs::read_to_string(Addresses::file(&data)).expect("readable");
        assert!(addresses.databases.is_empty() && !written.contains("postgres"), "{written}");
        if expected == 0 {
            env.aircraft(3);
            let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
            register(&client, &base, "ada@example.org", 7, interest).await;
        }
        for (count, says) in [(8, "(8) exceeded the high threshold of 5"), (3, "(3) is back within the thresholds")] {
            env.aircraft(count);
            expected += 1;
            let texts = env.texts(|texts| texts.len() >= expected).await;
            assert!(texts.len() == expected && texts[expected - 1].contains(says), "{texts:#?}");
        }
        is_settled(&ledger).await;

        let mut doctor = program::start("flightbell", &["doctor", "--data-dir", &folder], &environment).await;
        let code = doctor.code().await;
        let found = doctor.out();
        assert_eq!(code, 0, "{found}");
        assert!(found.contains("our topics are there") && found.contains("NOTIFIER_DATABASE_URL answers"));

        // Without the environment it cannot look at the databases, and says so.
        let mut doctor = program::start("flightbell", &["doctor", "--data-dir", &folder], &[]).await;
        doctor.code().await;
        let found = doctor.out();
        assert!(
            found.contains("names them, and this one does not") && found.contains("NOTIFIER_DATABASE_URL"),
            "{found}"
        );

        let log = program.stop().await;
        assert!(!log.contains("private") && !log.contains("stopping Kafka"), "{log}");
        assert!(!data.join("postgres").exists() && !data.join("kafka").exists());
        assert!(orphans::running(&data).await.expect("looked").is_empty());
    }
    is_settled(&ledger).await;
    assert_eq!(env.texts(|_| true).await.len(), expected);
}
