//! A private PostgreSQL and a private Apache Kafka: found, prepared, started, watched, stopped.
//!
//! `flightbell up`, the tests and the benchmarks all run their servers through this crate, so what
//! is tested is what people run. Both servers are child processes in groups of their own, under one
//! data directory:
//!
//! ```text
//! DIR/lock            held by the one process that runs the servers; holds its pid
//! DIR/addresses.json  where they are reached, for whoever comes to help (0600)
//! DIR/logs/           what they say, each file bounded
//! DIR/postgres/data   the cluster; DIR/postgres/run its socket, where the path is short enough
//! DIR/kafka/data      the broker's log
//! ```
//!
//! Nothing here reads the environment: [`Discovery`] carries what matters of it. Nothing here speaks
//! SQL or Kafka's protocol: the crate runs the servers, others use them.

pub mod addresses;
pub mod data_dir;
pub mod discovery;
pub mod disk;
pub mod error;
pub mod kafka;
pub mod orphans;
pub mod ownership;
pub mod postgres;

mod core;
mod launch;
mod log;
mod ports;
mod processes;
mod run_as;
mod supervisor;

pub use addresses::Addresses;
pub use data_dir::DataDir;
pub use discovery::Discovery;
pub use disk::free_bytes;
pub use error::Error;
pub use kafka::{Kafka, KafkaCluster, KafkaOptions, Protected, Proxied};
pub use postgres::{Postgres, PostgresOptions};
pub use supervisor::{State, Watch};

/// How much a power cut may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: what is acknowledged is on disk.
    Durable,
    /// Everything: the data lives as long as a test. Killing a server still loses nothing, since the
    /// system keeps what was written.
    ForTests,
}
