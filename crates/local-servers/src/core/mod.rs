//! Decisions about servers: pure, and tested without one.

pub(crate) mod identity;
pub(crate) mod ports;
pub(crate) mod properties;
pub(crate) mod restart_limit;
pub(crate) mod versions;
