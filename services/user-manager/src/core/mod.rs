//! What a registration consists of, decided without clock, randomness or database.

pub mod iban;
pub mod tax_code;
pub mod undelivered;
pub mod user;
