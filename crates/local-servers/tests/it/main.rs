//! The private servers, on real ones.
#![cfg(test)]

mod bed;
mod kafka;
mod places;
mod postgres;
