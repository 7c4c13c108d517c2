#![doc = include_str!("../README.md")]

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
mod layout;
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
pub use postgres::{Postgres, PostgresOptions, check_user};
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
