#![doc = include_str!("../README.md")]
#![allow(clippy::expect_used, clippy::panic, reason = "a helper that cannot help has found the test's failure")]

pub mod topic_io;

mod authority;
mod captured_log;
mod databases;
mod disk;
mod kafka_dump;
mod process;
mod proxy;
mod servers;
mod shared;
mod skipped;
mod wait;
mod watchdog;
mod worker;

pub use authority::Authority;
pub use captured_log::{CapturedLog, LevelFilter};
pub use databases::{Database, DatabaseClock, database, empty_database};
pub use disk::SmallDisk;
pub use kafka_dump::{CommittedOffset, KafkaDump, RecordDump, TopicDump};
pub use process::{Process, STOP_LIMIT, free_addr, last_words, readyz, wait_until_ready};
pub use proxy::Proxy;
pub use servers::{
    Cluster, Frozen, Kafka, OwnServers, Servers, kafka_behind, kafka_cluster, lone_kafka, protected_kafka,
};
pub use shared::{KAFKA, POSTGRES, servers};
pub use skipped::{SKIPPED, skip};
pub use wait::wait_for;
pub use watchdog::Folder;
pub use worker::Worker;

use std::net::SocketAddr;

use events::topics::{Namespace, TOPICS, Topic};
use uuid::Uuid;

/// The shared Kafka's bootstrap servers.
pub async fn kafka() -> String {
    servers().await.kafka.clone()
}

/// The loopback address of the shared PostgreSQL, which stands in the URLs of [`database`].
#[must_use]
pub fn postgres_addr() -> SocketAddr {
    shared::blocking().postgres
}

/// Names of topics and consumer groups that no other test has. Nothing is created yet.
#[must_use]
pub fn topics() -> Namespace {
    topics_of(TOPICS)
}

/// The same for the topics of a table of one's own.
#[must_use]
pub fn topics_of(table: &'static [Topic]) -> Namespace {
    Namespace::of(table).with_prefix(format!("t{}-", Uuid::new_v4().simple()))
}

/// Creates the topics of a namespace, each with `partitions` partitions, and their dead letter topics.
pub async fn make_topics(bootstrap: &str, names: &Namespace, partitions: u16) {
    let mut config = kafka::KafkaConfig::plain(bootstrap);
    config.partitions = partitions;
    let stopping = tokio_util::sync::CancellationToken::new();
    kafka::topics::create(&config, names, &stopping, |_| {}).await.expect("topics");
}

/// An HTTP client, with what TLS needs installed.
#[must_use]
pub fn http_client() -> reqwest::Client {
    runtime::choose_tls();
    reqwest::Client::new()
}

/// Shows the log of the code under test, as much as `RUST_LOG` says.
pub fn tracing() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // An error says that another test of this process was first.
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init());
}
