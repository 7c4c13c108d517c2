use uuid::Uuid;

/// The id of the message that carries `reading_id` to one interest in one version.
///
/// The same cause always has the same id, so a repeated fan-out page repeats ids, not events.
#[must_use]
pub fn reading_event_id(interest_id: Uuid, interest_version: i64, reading_id: Uuid) -> Uuid {
    let mut name = [0u8; 24];
    name[..8].copy_from_slice(&interest_version.to_be_bytes());
    name[8..].copy_from_slice(reading_id.as_bytes());
    Uuid::new_v5(&interest_id, &name)
}

/// The id of the alert that the message `cause` led to.
///
/// One message leads to at most one alert, and a redelivered message leads to the same one.
#[must_use]
pub fn alert_event_id(cause: Uuid) -> Uuid {
    Uuid::new_v5(&cause, b"alert")
}
