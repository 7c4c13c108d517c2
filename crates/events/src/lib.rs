#![doc = include_str!("../README.md")]

mod alert;
mod email;
mod flight_count;
mod identity;
mod metric;
mod reading;

pub mod headers;
pub mod topics;

pub use alert::{AlertEvent, AlertKind, Crossing, LegacyAlert};
pub use email::{EmailAddress, WrongEmailAddress};
pub use flight_count::{FlightCount, NegativeFlightCount};
pub use identity::{alert_event_id, reading_event_id};
pub use metric::{Metric, UnknownMetric};
pub use reading::{LegacyReading, ReadingEvent, ReadingRef};
