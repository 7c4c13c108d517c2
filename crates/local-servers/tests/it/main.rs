//! The private servers, on real ones.
#![cfg(test)]

mod bed;
mod discovery;
mod full_disk;
mod kafka;
mod postgres;
