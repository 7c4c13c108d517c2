//! The worker on a real Kafka and a real PostgreSQL.
#![cfg(test)]

mod processes;
mod world;

mod batches;
mod crossings;
mod deaths;
mod outages;
mod redelivery;
mod rejects;
mod speed;
