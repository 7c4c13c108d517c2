//! What needs real connections.

#![cfg(test)]

mod proxies;
