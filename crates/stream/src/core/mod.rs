//! What the loop decides, as plain values: no broker, no clock of its own, no dice.

pub mod advice;
pub mod backlog;
pub mod marks;
pub mod membership;
pub mod rejects;
pub mod replication;
pub mod step;
pub mod throttle;
