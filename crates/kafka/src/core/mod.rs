//! What the loop decides, as plain values: no broker, no clock of its own, no randomness.

pub mod advice;
pub mod failure_action;
pub mod log_throttle;
pub mod membership;
pub mod partition_buffers;
pub mod rejects;
pub mod replication;
pub mod resolutions;
