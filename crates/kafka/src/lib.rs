#![doc = include_str!("../README.md")]

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
mod names;
mod resets;
mod tail;

pub use config::{KafkaConfig, Profile};
pub use consumer::{BatchLimits, Consumer, Subscription};
pub use dead_letter_breaker::DeadLetterBreaker;
pub use handler::{Failure, Handler, Reject, Settled};
pub use producer::{Batch, OutgoingRecord, Producer, SendError};
pub use record::{Offset, Partition, Record, Source, by_partition};
pub use tail::Tail;
