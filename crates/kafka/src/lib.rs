//! Kafka, for services that would rather not know it: client settings, topics, the one consume
//! loop, the producer, and dead letters. No other crate names rdkafka outside its tests.
//!
//! ```text
//! topic ──▶ consume loop ──▶ Handler ──▶ settled: its offset may be committed
//! retry ─┘    │    ▲             ├──▶ rejected: <topic>.<group>.dlq, acknowledged, then settled
//!             │    └── paused ◀──┴──▶ unavailable: the partition waits, the group is kept
//!             └──▶ revoked: its records are dropped, and another member reads them
//! ```
//!
//! An offset moves only past settled work, and one line in [`consumer`] moves it. Whatever decides
//! is under `core/`: pure, and tested without a broker. Transactions are not used: effects are
//! idempotent instead, so a record may be handled twice and does its work once.

pub mod config;
pub mod consumer;
pub mod dead_letter_breaker;
pub mod dead_letters;
pub mod dlq;
pub mod handler;
pub mod producer;
pub mod record;
pub mod topics;

mod client;
mod closing;
mod core;
mod metrics;
mod resets;
mod tail;

pub use config::{KafkaConfig, Profile};
pub use consumer::{BatchLimits, Consumer, Subscription};
pub use dead_letter_breaker::DeadLetterBreaker;
pub use handler::{Failure, Handler, Reject, Settled};
pub use producer::{Batch, OutgoingRecord, Producer, SendError};
pub use record::{Offset, Partition, Record, Source, by_partition};
pub use tail::Tail;
