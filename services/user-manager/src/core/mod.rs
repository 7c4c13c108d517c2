//! What a registration consists of and when something is tried again, decided without clock, dice
//! or database.

pub mod iban;
pub mod patience;
pub mod tax_code;
pub mod undelivered;
pub mod user;
