//! Holds the rendered manifests against the code. `make check-k8s` renders them and names their folder in
//! `FLIGHTBELL_MANIFESTS`; hence `test = false` in Cargo.toml.

#![cfg(test)]

mod alerts;
mod environment;
mod images;
mod kafka;
mod migrate;
mod network;
mod rendered;
mod security;
