//! What an interest may look like, and what a change of it changes.

/// The highest threshold.
pub const HIGHEST_THRESHOLD: i64 = 100_000;

/// Fewer flights a day than this, on average, is hardly anything: an airport in reach of receivers
/// that sees traffic at all shows more.
const HARDLY_ANY_A_DAY: f64 = 1.0;

/// Airports known to be out of the receivers' reach before anything was collected there: Catania showed
/// 0 to 11 departures a month.
const KNOWN_TO_BE_HARDLY_SEEN: [&str; 1] = ["LICC"];

/// How many live readings without a single aircraft make one suspect that nobody listens there.
const EMPTY_LIVE_READINGS: i64 = 12;

/// When to tell: above `high`, below `low`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Tell when the value is greater.
    pub high: Option<i32>,
    /// Tell when the value is smaller.
    pub low: Option<i32>,
}

/// One threshold in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// As it is.
    Keep,
    /// From now on there is none.
    Clear,
    /// From now on this.
    Set(i32),
}

/// The high threshold is not greater than the low one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossed;

/// Why thresholds cannot be changed as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The high threshold would not be greater than the low one.
    Crossed,
    /// No threshold would be left.
    NoneLeft,
}

impl Thresholds {
    /// Thresholds that make sense together.
    ///
    /// # Errors
    /// When both are given and the high one is not greater.
    pub fn new(high: Option<i32>, low: Option<i32>) -> Result<Self, Crossed> {
        match (high, low) {
            (Some(high), Some(low)) if high <= low => Err(Crossed),
            _ => Ok(Self { high, low }),
        }
    }

    /// The thresholds after a change.
    ///
    /// # Errors
    /// When the result makes no sense, or has no threshold.
    pub fn changed(self, high: Change, low: Change) -> Result<Self, Refused> {
        match Self::new(high.of(self.high), low.of(self.low)) {
            Ok(Self { high: None, low: None }) => Err(Refused::NoneLeft),
            Ok(thresholds) => Ok(thresholds),
            Err(Crossed) => Err(Refused::Crossed),
        }
    }
}

impl Change {
    fn of(self, before: Option<i32>) -> Option<i32> {
        match self {
            Self::Keep => before,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// What our own data say about how well an airport is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Whole days that are held, or for `live` readings with a value.
    pub looked: i64,
    /// Flights on those days, or aircraft in those readings.
    pub seen: i64,
}

/// Whether so little is seen of the airport that "fewer than" would be about missing receivers. What we
/// saw ourselves counts; where that is too little to tell, what is known of the airport.
#[must_use]
pub fn is_hardly_seen(airport: &str, coverage: Coverage, live: bool) -> bool {
    let enough = if live { EMPTY_LIVE_READINGS } else { 1 };
    if coverage.looked < enough {
        return coverage.seen == 0 && KNOWN_TO_BE_HARDLY_SEEN.contains(&airport);
    }
    if live {
        return coverage.seen == 0;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of flights are far below 2^52")]
    let (looked, seen) = (coverage.looked as f64, coverage.seen as f64);
    seen / looked < HARDLY_ANY_A_DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_must_leave_room_between_them() {
        assert_eq!(Thresholds::new(Some(2), Some(2)), Err(Crossed));
        assert_eq!(Thresholds::new(Some(1), Some(2)), Err(Crossed));
        for (high, low) in [(Some(3), Some(2)), (Some(3), None), (None, Some(0)), (None, None)] {
            assert!(Thresholds::new(high, low).is_ok(), "{high:?} {low:?}");
        }
    }

    #[test]
    fn a_change_is_judged_by_its_result() {
        let before = Thresholds { high: Some(10), low: Some(5) };
        assert_eq!(before.changed(Change::Set(4), Change::Keep), Err(Refused::Crossed));
        assert_eq!(before.changed(Change::Clear, Change::Clear), Err(Refused::NoneLeft));
        assert_eq!(before.changed(Change::Set(4), Change::Clear), Ok(Thresholds { high: Some(4), low: None }));
        assert_eq!(before.changed(Change::Keep, Change::Keep), Ok(before));
        assert_eq!(before.changed(Change::Clear, Change::Set(50)), Ok(Thresholds { high: None, low: Some(50) }));
    }

    #[test]
    fn few_flights_over_the_days_held_are_hardly_any() {
        let seen = |looked, seen| is_hardly_seen("LIRQ", Coverage { looked, seen }, false);
        assert!(seen(30, 11) && seen(1, 0));
        assert!(!seen(0, 0) && !seen(1, 1) && !seen(30, 400));
    }

    #[test]
    fn an_empty_sky_must_be_seen_often_to_mean_something() {
        let seen = |looked, seen| is_hardly_seen("LIRQ", Coverage { looked, seen }, true);
        assert!(seen(12, 0));
        assert!(!seen(11, 0) && !seen(500, 1));
    }

    #[test]
    fn catania_is_known_to_be_hardly_seen_until_we_saw_otherwise() {
        let seen = |looked, seen, live| is_hardly_seen("LICC", Coverage { looked, seen }, live);
        assert!(seen(0, 0, false) && seen(0, 0, true) && seen(11, 0, true));
        assert!(!seen(1, 40, false) && !seen(3, 2, true) && !seen(500, 1, true));
    }
}
