//! `setup_cluster.sh`, on a machine where kind, the container engine, kubectl and curl are stand-ins.

#![cfg(test)]

mod compose;
mod credentials;
mod deploy;
mod failures;
mod lock;
mod secrets;
mod stage;
mod tools;
mod up;
