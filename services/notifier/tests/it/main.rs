//! The notifier on a real Kafka and a real PostgreSQL, with a Telegram that misbehaves on purpose.
#![cfg(test)]

mod people;
mod processes;
mod telegram;
mod world;

mod channel;
mod clock;
mod contacts;
mod deaths;
mod delivery;
mod intake;
mod limits;
mod outages;
mod queues;
mod refusals;
mod replicas;
