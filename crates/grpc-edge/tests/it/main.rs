//! The gRPC edge over real connections.

#![cfg(test)]

mod calls;
mod metrics;
