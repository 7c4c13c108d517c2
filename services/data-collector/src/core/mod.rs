//! Every decision of the collector, as functions of values: no clock, no chance, no input or output.

pub mod boxes;
pub mod clock;
pub mod credits;
pub mod day;
pub mod geo;
pub mod interest;
pub mod live;
pub mod plan;
pub mod reading;
