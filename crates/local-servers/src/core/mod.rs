//! Decisions about servers: pure, and tested without one.

pub(crate) mod deaths;
pub(crate) mod identity;
pub(crate) mod ports;
pub(crate) mod properties;
pub(crate) mod versions;
