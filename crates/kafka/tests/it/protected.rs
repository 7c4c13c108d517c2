//! A Kafka that wants TLS, a name and a password, reached by the contract's settings.

use std::{collections::HashMap, path::Path};

use kafka::{KafkaConfig, topics};
use runtime::{ServiceRuntime, clock::Clock, config::Reader};
use testkit::Authority;
use tokio_util::sync::CancellationToken;

use crate::support::{DEADLINE, Harness, Seen, accepting, wait_for};

const NAME: &str = "flightbell";
const PASSWORD: &str = "hush-7";

/// The settings as a service reads them.
fn settings(pairs: &[(&str, &str)]) -> KafkaConfig {
    let vars: HashMap<String, String> =
        pairs.iter().map(|(key, value)| (format!("KAFKA_{key}"), (*value).to_owned())).collect();
    let mut reader = Reader::new(&vars);
    let config = KafkaConfig::read(&mut reader);
    reader.finish(|| config).expect("settings")
}

fn signed_in(addr: &str, authority: &Path, password: &str) -> KafkaConfig {
    settings(&[
        ("BROKER_URL", addr),
        ("SECURITY_PROTOCOL", "SASL_SSL"),
        ("SASL_MECHANISM", "SCRAM-SHA-512"),
        ("SASL_USERNAME", NAME),
        ("SASL_PASSWORD", password),
        ("CA_FILE", authority.to_str().expect("a path")),
    ])
}

fn encrypted(addr: &str, authority: &Path) -> KafkaConfig {
    let authority = authority.to_str().expect("a path");
    settings(&[("BROKER_URL", addr), ("SECURITY_PROTOCOL", "SSL"), ("CA_FILE", authority)])
}

async fn consumes(config: KafkaConfig) {
    let harness = tokio::time::timeout(DEADLINE, Harness::with_topics(config, 3)).await.expect("Kafka lets us in");
    let seen = Seen::default();
    let member = harness.start(accepting(&seen));
    harness.produce(0..100).await;
    wait_for("the records", || seen.len() >= 100).await;
    member.stop().await;
    assert_eq!(seen.values(), (0..100).collect::<Vec<_>>());
}

/// What `/readyz` says of a service that starts with these settings.
async fn waits_and_says(config: KafkaConfig, expected: &str) {
    let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
    let names = testkit::topics();
    let starting = topics::ensure(&config, &names, "notifier", runtime::readiness::Criticality::Required, &runtime);
    let said = async {
        let mut detail = String::new();
        testkit::wait_for(expected, DEADLINE, async || {
            let report = runtime.readiness.report().await;
            detail = report.parts.into_iter().filter_map(|part| part.detail).collect();
            detail.contains(expected)
        })
        .await;
        assert!(!detail.contains(PASSWORD) && !detail.contains("wrong-9"), "{detail}");
        runtime.tasks.stopping().cancel();
    };
    let (started, ()) = tokio::join!(starting, said);
    assert!(started.is_err_and(|error| error.is::<runtime::StoppedEarly>()), "it waits until it is stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_through_tls_with_a_name_and_a_password_and_what_is_wrong_is_said() {
    let authority = Authority::new();
    let kafka = testkit::protected_kafka(&authority, NAME, PASSWORD).await;
    let (sasl, tls) = kafka.protected().expect("protected listeners");
    consumes(signed_in(&sasl, authority.file(), PASSWORD)).await;
    consumes(encrypted(&tls, authority.file())).await;

    waits_and_says(signed_in(&sasl, authority.file(), "wrong-9"), "KAFKA_SASL_PASSWORD").await;
    let stranger = Authority::new();
    waits_and_says(signed_in(&sasl, stranger.file(), PASSWORD), "KAFKA_CA_FILE").await;
    waits_and_says(encrypted(&tls, stranger.file()), "KAFKA_CA_FILE").await;
    waits_and_says(settings(&[("BROKER_URL", &tls)]), "KAFKA_SECURITY_PROTOCOL").await;
    waits_and_says(encrypted(&kafka.bootstrap, authority.file()), "KAFKA_SECURITY_PROTOCOL").await;
    waits_and_says(encrypted(&tls.replace("localhost", "127.0.0.1"), authority.file()), "KAFKA_BROKER_URL").await;
}
