//! `setup_cluster.sh`, on a machine where kind, the container engine, kubectl and curl are stand-ins.

#![cfg(test)]

mod credentials;
mod deploy;
mod failures;
mod secrets;
mod stage;
mod tools;
mod up;
