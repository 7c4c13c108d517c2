//! The one binary a person runs: every service in one process, and the tools around them.
//!
//! It starts, watches and stops; what the services do is theirs. It is the only crate that depends on
//! services.

#[expect(clippy::doc_markdown, reason = "these comments are the help text, which is no markdown")]
pub mod cli;
pub mod demo;
pub mod dlq;
pub mod doctor;
pub mod folder;
pub mod gateway;
#[cfg(test)]
mod readme_tests;
pub mod running;
pub mod services;
pub mod settings;
pub mod strangers;
pub mod up;
