//! The real binary as a process of its own.

use testkit::Process;

use crate::test_env::TestEnv;

pub const WORKER: &str = env!("CARGO_BIN_EXE_alert-system");

/// Starts the worker on the environment's servers, with more of an environment.
pub fn start(env: &TestEnv, environment: &[(&str, &str)]) -> Process {
    let partitions = env.kafka.partitions.to_string();
    let needed = [
        ("DATABASE_URL", env.database.url.as_str()),
        ("KAFKA_BROKER_URL", &env.kafka.bootstrap),
        ("KAFKA_PARTITIONS", &partitions),
        ("ADMIN_ADDR", "127.0.0.1:0"),
        ("RUST_LOG", "warn"),
    ];
    Process::start(WORKER, &[], needed.iter().chain(environment).copied())
}
