//! What the notifier decides, without a clock, a network or a database.
//!
//! Times, random numbers and Telegram's answers are arguments; what is to be done is a value.

pub mod chat_lookup;
pub mod decode;
pub mod ending;
pub mod message;
pub mod rate_limit_scope;
pub mod rate_limiter;
pub mod reach;
pub mod retry_schedule;
pub mod send_result;
pub mod telegram_breaker;
