//! The notifier on a real Kafka and a real PostgreSQL, with a Telegram that misbehaves on purpose.
#![cfg(test)]

mod people;
mod processes;
mod telegram;
mod test_env;

mod clock;
mod consumer;
mod contacts;
mod deaths;
mod delivery;
mod limits;
mod outages;
mod queues;
mod refusals;
mod replicas;
mod telegram_breaker;
