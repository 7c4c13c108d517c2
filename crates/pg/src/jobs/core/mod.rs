//! What a worker decides, as plain values: no database, no clock, no dice.

pub mod pace;
