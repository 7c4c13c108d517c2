//! The real binary as a process of its own.

use testkit::Process;

use crate::world::World;

pub const WORKER: &str = env!("CARGO_BIN_EXE_alert-system");

/// Starts the worker on the world's servers, with more of an environment.
pub fn start(world: &World, environment: &[(&str, &str)]) -> Process {
    let partitions = world.kafka.partitions.to_string();
    let needed = [
        ("DATABASE_URL", world.database.url.as_str()),
        ("KAFKA_BROKER_URL", &world.kafka.bootstrap),
        ("KAFKA_PARTITIONS", &partitions),
        ("ADMIN_ADDR", "127.0.0.1:0"),
        ("RUST_LOG", "warn"),
    ];
    Process::start(WORKER, &[], needed.iter().chain(environment).copied())
}
