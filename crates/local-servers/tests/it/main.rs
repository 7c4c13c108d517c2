//! The private servers, on real ones.
#![cfg(test)]

mod bed;
mod full_disk;
mod kafka;
mod places;
mod postgres;
