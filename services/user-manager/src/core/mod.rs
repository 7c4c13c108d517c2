//! What a registration consists of and when something is tried again, decided without clock,
//! randomness or database.

pub mod iban;
pub mod retry;
pub mod tax_code;
pub mod undelivered;
pub mod user;
