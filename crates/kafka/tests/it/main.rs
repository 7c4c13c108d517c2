//! The consume loop, the producer and the dead letters on a real Kafka; broker errors on the client
//! library's own mock.
#![cfg(test)]

mod dead_letters;
mod delivery;
mod dlq;
mod outages;
mod partitions;
mod pauses;
mod producer;
mod protected;
mod rebalances;
mod retries;
mod several;
mod support;
mod tail;
mod topics;
