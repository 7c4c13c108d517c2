//! user-manager on a real PostgreSQL, with a stand-in for data-collector's gRPC.
#![cfg(test)]

mod collector;
mod process;
mod world;

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
