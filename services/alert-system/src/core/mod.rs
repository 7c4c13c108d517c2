//! What the worker decides, free of clocks, databases and Kafka.

mod alert;
mod decide;
mod message;
mod plan;
mod write_policy;

pub use alert::compose;
pub use decide::{Data, Decision, InterestEvent, Level, Observation, Outcome, Sequence, State, Thresholds, decide};
pub use message::{Message, Reading, Rejection, WireRecord, read};
pub use plan::{BatchPlan, PendingAlert, Touched, in_rounds, plan};
pub use write_policy::{CHECKPOINT_EVERY, CachedState, Settled, settle};

#[cfg(test)]
mod replay_tests;
