//! What the worker decides, free of clocks, databases and Kafka.

mod alert;
mod decide;
mod keep;
mod message;
mod plan;

pub use alert::compose;
pub use decide::{Crossing, Data, Decision, Level, Observation, Outcome, Position, State, Step, Thresholds, decide};
pub use keep::{CHECKPOINT_EVERY, Kept, Settled, settle};
pub use message::{Message, Reading, Rejection, WireRecord, read};
pub use plan::{Plan, Raised, Touched, in_turns, plan};

#[cfg(test)]
mod replay_tests;
