//! What travels between the services on Kafka: the table of topics, header names, and one type per event.
//!
//! These types are a promise to every other version of Flightbell that shares the topics. They
//! only grow: fields may be added, unknown fields are ignored, and the golden files under
//! `tests/golden/` change only on purpose. Nothing here decides, stores or sends.

mod alert;
mod email;
mod identity;
mod metric;
mod reading;

pub mod headers;
pub mod topics;

pub use alert::{AlertEvent, AlertKind, LegacyAlert};
pub use email::{EmailAddress, WrongEmailAddress};
pub use identity::{alert_event_id, reading_event_id};
pub use metric::{Metric, UnknownMetric};
pub use reading::{LegacyReading, ReadingEvent, ReadingRef};
