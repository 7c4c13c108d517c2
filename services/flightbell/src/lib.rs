//! The one binary a person runs: every service in one process, and the tools around them.

pub mod gateway;
