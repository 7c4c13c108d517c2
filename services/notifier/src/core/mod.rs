//! What the notifier decides, without a clock, a network or a database.
//!
//! Times, random numbers and Telegram's answers are arguments; what is to be done is a value.

pub mod channel;
pub mod clock_watch;
pub mod decode;
pub mod ending;
pub mod message;
pub mod pacing;
pub mod patience;
pub mod reach;
pub mod schedule;
pub mod throttle;
pub mod verdict;
