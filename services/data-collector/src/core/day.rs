//! Finished UTC days: which one to ask for, and what an empty answer means.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use events::FlightCount;

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

/// So many flights a day do not become next to none on the next: such an answer needs a second one.
const MANY_FLIGHTS: FlightCount = FlightCount::new(20);

/// One of so many is next to none.
const NEXT_TO_NONE: i64 = 10;

/// A question for the flights of a day, and what was known before it was answered.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The airport's ICAO code.
    pub airport: &'a str,
    /// Which of its flights.
    pub direction: Direction,
    /// Which day.
    pub day: NaiveDate,
    /// Whether the day was known to be published.
    pub published: bool,
    /// How many flights the airport had on its newest day.
    pub traffic: FlightCount,
}

/// What decides whether a listed flight belongs to a question.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// The airport where it began.
    pub departure_airport: Option<&'a str>,
    /// The airport where it ended.
    pub arrival_airport: Option<&'a str>,
    /// When it began.
    pub first_seen: DateTime<Utc>,
    /// When it ended.
    pub last_seen: DateTime<Utc>,
}

impl Listed<'_> {
    /// The end of the flight that the question is about.
    fn end(&self, direction: Direction) -> (Option<&str>, DateTime<Utc>) {
        match direction {
            Direction::Arrival => (self.arrival_airport, self.last_seen),
            Direction::Departure => (self.departure_airport, self.first_seen),
        }
    }

    /// Whether it can be an answer: of this airport, and in the air at some time of the day.
    fn can_answer(&self, asked: &Asked<'_>) -> bool {
        let ((first, last), (airport, _)) = (window(asked.day), self.end(asked.direction));
        airport == Some(asked.airport) && self.first_seen <= last && self.last_seen >= first
    }

    /// Whether it shows that the day is published: it landed or left on it.
    fn proves(&self, asked: &Asked<'_>) -> bool {
        let ((first, last), (_, at)) = (window(asked.day), self.end(asked.direction));
        (first..=last).contains(&at)
    }
}

/// What the source said about a day of an airport in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// These are the flights of the day: the day is published.
    Flights,
    /// The day is published and holds none.
    None,
    /// As [`Meaning::None`] or [`Meaning::Flights`], but there were many more on the day before: believed when it is said
    /// again.
    Doubtful,
    /// The day is not published yet, as far as anybody can tell.
    Unknown,
    /// The list answers another question.
    AnotherQuestion,
}

/// What an answer means; nothing there (404) and an empty list are the same. Only flights show that a day is
/// published: an upstream in trouble lists none as well.
#[must_use]
pub fn meaning(listed: &[Listed<'_>], asked: &Asked<'_>) -> Meaning {
    if !listed.iter().all(|flight| flight.can_answer(asked)) {
        return Meaning::AnotherQuestion;
    }
    if !asked.published && !listed.iter().any(|flight| flight.proves(asked)) {
        return Meaning::Unknown;
    }
    let number = i64::try_from(listed.len()).unwrap_or(i64::MAX);
    if asked.traffic >= MANY_FLIGHTS && number.saturating_mul(NEXT_TO_NONE) <= asked.traffic.get() {
        return Meaning::Doubtful;
    }
    if listed.is_empty() { Meaning::None } else { Meaning::Flights }
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

    fn asked(published: bool, traffic: u32) -> Asked<'static> {
        let day = "2026-11-20".parse().expect("a date");
        Asked { airport: "KSFO", direction: Direction::Arrival, day, published, traffic: FlightCount::new(traffic) }
    }

    fn listed<'a>(airport: Option<&'a str>, from: &str, to: &str) -> Listed<'a> {
        let at = |text: &str| format!("2026-11-{text}:00Z").parse().expect("a time");
        Listed { departure_airport: None, arrival_airport: airport, first_seen: at(from), last_seen: at(to) }
    }

    #[test]
    fn nothing_there_is_zero_only_on_a_published_day_and_doubted_where_there_was_much() {
        assert_eq!(meaning(&[], &asked(false, 900)), Meaning::Unknown);
        assert_eq!(meaning(&[], &asked(true, 19)), Meaning::None);
        assert_eq!(meaning(&[], &asked(true, 20)), Meaning::Doubtful);
    }

    #[test]
    fn next_to_nothing_is_doubted_where_there_was_much() {
        let flight = listed(Some("KSFO"), "20T08:00", "20T10:00");
        let said = |flights: usize, traffic| meaning(&vec![flight; flights], &asked(true, traffic));
        assert_eq!([said(1, 9), said(1, 19), said(2, 19)], [Meaning::Flights; 3]);
        assert_eq!([said(2, 20), said(3, 20), said(90, 900)], [Meaning::Doubtful, Meaning::Flights, Meaning::Doubtful]);
        assert_eq!(said(91, 900), Meaning::Flights);
        // Such a list publishes a day all the same.
        assert_eq!(meaning(&[flight], &asked(false, 900)), Meaning::Doubtful);
        assert_eq!(meaning(&[flight], &asked(false, 0)), Meaning::Flights);
    }

    #[test]
    fn a_day_is_published_when_a_flight_of_that_day_is_listed() {
        let of_the_day = listed(Some("KSFO"), "19T22:00", "20T01:00");
        // It landed a day later: no arrival of the day, if a flight in it.
        let only_in_the_air = listed(Some("KSFO"), "20T22:00", "21T01:00");
        assert_eq!(meaning(&[of_the_day], &asked(false, 0)), Meaning::Flights);
        assert_eq!(meaning(&[only_in_the_air], &asked(false, 0)), Meaning::Unknown);
        assert_eq!(meaning(&[only_in_the_air, of_the_day], &asked(false, 0)), Meaning::Flights);
        assert_eq!(meaning(&[only_in_the_air], &asked(true, 0)), Meaning::Flights);
        // Departures are judged by the other end.
        let leaves = Listed { departure_airport: Some("KSFO"), arrival_airport: None, ..only_in_the_air };
        let departures = Asked { direction: Direction::Departure, ..asked(false, 0) };
        assert_eq!(meaning(&[leaves], &departures), Meaning::Flights);
    }

    #[test]
    fn a_list_about_another_airport_or_another_day_answers_another_question() {
        let right = listed(Some("KSFO"), "20T08:00", "20T10:00");
        for wrong in [
            listed(Some("KJFK"), "20T08:00", "20T10:00"),
            listed(None, "20T08:00", "20T10:00"),
            listed(Some("KSFO"), "18T08:00", "18T10:00"),
            listed(Some("KSFO"), "22T08:00", "22T10:00"),
        ] {
            for published in [false, true] {
                assert_eq!(meaning(&[right, wrong], &asked(published, 0)), Meaning::AnotherQuestion, "{wrong:?}");
            }
        }
    }

    #[test]
    fn the_day_that_is_the_newest_until_yesterday_is_published_is_always_kept() {
        let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().expect("a time");
        for (days, since) in [(1, "2026-11-19T00"), (2, "2026-11-19T00"), (3, "2026-11-18T10"), (90, "2026-08-23T10")] {
            assert_eq!(kept_since(now, days), format!("{since}:00:00Z").parse::<DateTime<Utc>>().expect("a time"));
        }
    }
}
