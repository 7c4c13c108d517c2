//! user-manager on a real PostgreSQL, with a simulator for data-collector's gRPC.
#![cfg(test)]

mod collector;
mod process;
mod test_env;

mod calls;
mod deaths;
mod deletion;
mod description;
mod directory;
mod idempotency;
mod outages;
mod races;
mod undelivered;
mod wrong_input;
