//! Finished UTC days: which one to ask for, and what an empty answer means.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};

/// Which flights of an airport are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Flights that landed there.
    Arrival,
    /// Flights that left there.
    Departure,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Arrival, Self::Departure];

    /// The name used in SQL and in the source's paths.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Departure => "departure",
        }
    }
}

/// The day before `now`'s.
#[must_use]
pub fn yesterday(now: DateTime<Utc>) -> NaiveDate {
    now.date_naive() - Days::new(1)
}

/// The day before `day`.
#[must_use]
pub fn before(day: NaiveDate) -> NaiveDate {
    day - Days::new(1)
}

/// Since when flights and readings are kept at `now`, for so many days: at least since the day before
/// yesterday began, which is the newest there is until yesterday's flights are published.
#[must_use]
pub fn kept_since(now: DateTime<Utc>, days: u32) -> DateTime<Utc> {
    let (newest_for_sure, _) = window(before(yesterday(now)));
    (now - TimeDelta::days(i64::from(days))).min(newest_for_sure)
}

/// The first and the last second of a UTC day, which is the window the source is asked for.
#[must_use]
pub fn window(day: NaiveDate) -> (DateTime<Utc>, DateTime<Utc>) {
    let begin = day.and_time(NaiveTime::MIN).and_utc();
    (begin, begin + TimeDelta::days(1) - TimeDelta::seconds(1))
}

/// What the source said about a day of an airport in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// These are the flights of the day: the day is published.
    Flights,
    /// The day is published and holds none.
    None,
    /// The day is not published yet, as far as anybody can tell.
    Unknown,
}

/// What an answer means: `found` is whether it listed flights (200, not 404), `published` whether the
/// day was known to be published before.
#[must_use]
pub fn meaning(found: bool, published: bool) -> Meaning {
    match (found, published) {
        (true, _) => Meaning::Flights,
        (false, true) => Meaning::None,
        (false, false) => Meaning::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_one_whole_utc_day() {
        let now: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().expect("a time");
        let (begin, end) = window(yesterday(now));
        assert_eq!(begin.to_rfc3339(), "2026-02-28T00:00:00+00:00");
        assert_eq!(end.to_rfc3339(), "2026-02-28T23:59:59+00:00");
        assert_eq!(end.timestamp() - begin.timestamp(), 86_399);
    }

    #[test]
    fn nothing_there_is_zero_only_on_a_published_day() {
        assert_eq!(meaning(false, false), Meaning::Unknown);
        assert_eq!(meaning(false, true), Meaning::None);
        assert_eq!(meaning(true, false), Meaning::Flights);
    }

    #[test]
    fn the_day_that_is_the_newest_until_yesterday_is_published_is_always_kept() {
        let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().expect("a time");
        for (days, since) in [(1, "2026-11-19T00"), (2, "2026-11-19T00"), (3, "2026-11-18T10"), (90, "2026-08-23T10")] {
            assert_eq!(kept_since(now, days), format!("{since}:00:00Z").parse::<DateTime<Utc>>().expect("a time"));
        }
    }
}
