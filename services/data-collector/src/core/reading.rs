//! Readings: which are still usable, and which a collection gives.

use chrono::{DateTime, TimeDelta, Utc};
use events::Metric;

use super::day::{self, Direction};

/// The directions a metric needs; none for `live`.
#[must_use]
pub const fn directions(metric: Metric) -> &'static [Direction] {
    match metric {
        Metric::Flights => &Direction::ALL,
        Metric::Arrivals => &[Direction::Arrival],
        Metric::Departures => &[Direction::Departure],
        Metric::Live => &[],
    }
}

/// From when on a reading's window must end for a new interest to be judged by it at `now`: a daily
/// figure may be that of the day before yesterday, a live one must be from one of the last two cycles.
#[must_use]
pub fn usable_since(metric: Metric, now: DateTime<Utc>, interval: TimeDelta) -> DateTime<Utc> {
    if metric == Metric::Live {
        return now - interval * 2;
    }
    let (begin, _) = day::window(day::before(day::yesterday(now)));
    begin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_interest_is_judged_by_what_is_recent() {
        let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().expect("a time");
        let since = |metric| usable_since(metric, now, TimeDelta::seconds(300)).to_rfc3339();
        assert_eq!(since(Metric::Live), "2026-11-21T09:50:00+00:00");
        assert_eq!(since(Metric::Flights), "2026-11-19T00:00:00+00:00");
    }

    #[test]
    fn only_the_directions_that_are_needed_are_asked() {
        assert_eq!(directions(Metric::Flights).len(), 2);
        assert_eq!(directions(Metric::Arrivals), [Direction::Arrival]);
        assert_eq!(directions(Metric::Departures), [Direction::Departure]);
        assert!(directions(Metric::Live).is_empty());
    }
}
