//! The worker on a real Kafka and a real PostgreSQL.
#![cfg(test)]

mod processes;
mod test_env;

mod batches;
mod crossings;
mod deaths;
mod outages;
mod redelivery;
mod rejects;
mod speed;
