//! What is made of stored times when the clock was wrong.

use chrono::{DateTime, TimeDelta, Utc};

/// How far a stored time may lie ahead of now: clocks of two machines differ a little.
const TOLERANCE: TimeDelta = TimeDelta::minutes(1);

/// Whether `stored` was written by a clock that was ahead of the one that says `now`.
#[must_use]
pub fn is_ahead(stored: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    stored > now + TOLERANCE
}

/// What speaks for the time on the local clock before anything is deleted by it.
#[derive(Clone, Copy, Debug)]
pub struct ClockWitnesses {
    /// The database's clock; none for a replay, whose time is another.
    pub database: Option<DateTime<Utc>>,
    /// When the newest reading with a value was observed. The source has confirmed the clock for it: what it
    /// says of another time is unknown.
    pub newest_value: Option<DateTime<Utc>>,
    /// Whether the clock has run for a day without a jump.
    pub is_steady: bool,
}

/// How far two witnesses of the time may lie apart.
const WITNESSES_APART: TimeDelta = TimeDelta::days(1);

/// Why the local clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum ClockDoubt {
    /// The database's clock says otherwise.
    #[error("the database's clock and ours are more than a day apart")]
    Database,
    /// Nothing was read from the source for long, or not by this clock.
    #[error("the newest reading with a value is more than a day from our clock, which has not run for a day yet")]
    Readings,
}

/// Whether old data may be deleted by a clock that says `now`.
///
/// # Errors
/// What speaks against it.
pub fn confirm_clock(now: DateTime<Utc>, witnesses: &ClockWitnesses) -> Result<(), ClockDoubt> {
    let is_far = |other: DateTime<Utc>| (other - now).abs() > WITNESSES_APART;
    if witnesses.database.is_some_and(is_far) {
        return Err(ClockDoubt::Database);
    }
    // Where nothing is watched, or the source is away for days, there is no other witness than the clock's own
    // steadiness: it would have been set meanwhile.
    if witnesses.newest_value.is_some_and(is_far) && !witnesses.is_steady {
        return Err(ClockDoubt::Readings);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn nothing_is_deleted_by_a_clock_that_its_witnesses_contradict() {
        let now = at("2026-11-21T10:00:00Z");
        let years = Some(at("2031-11-21T10:00:00Z"));
        let (near, week) = (Some(at("2026-11-20T12:00:00Z")), Some(at("2026-11-14T10:00:00Z")));
        let check = |database, newest_value, is_steady, expected: Result<(), ClockDoubt>| {
            let witnesses = ClockWitnesses { database, newest_value, is_steady };
            assert_eq!(confirm_clock(now, &witnesses), expected, "{witnesses:?}");
        };
        check(near, near, false, Ok(()));
        check(near, None, false, Ok(()));
        check(None, near, false, Ok(()));
        check(years, near, true, Err(ClockDoubt::Database));
        // The database runs on the same machine, whose clock is years ahead.
        check(near, week, false, Err(ClockDoubt::Readings));
        check(near, week, true, Ok(()));
    }
}
