//! Decisions: what must be told, and what the report says.

pub mod report;
pub mod told;
pub mod usage;
