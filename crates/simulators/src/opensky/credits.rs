//! What calls cost, and who has how much left.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};

use super::rows::Area;

/// Each has credits of its own. (OpenSky's third, for tracks, is not served here.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// `/states/all`.
    States,
    /// `/flights/*`.
    Flights,
}

/// Who asks: signed in or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// With a valid token.
    SignedIn,
    /// Without one.
    Anonymous,
}

/// How many credits each bucket holds a day, by who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// A standard account: 4,000.
    pub signed_in: u32,
    /// An address without an account: 400.
    pub anonymous: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { signed_in: 4000, anonymous: 400 }
    }
}

/// What is left today.
pub(super) struct Accounts {
    budget: Budget,
    day: NaiveDate,
    left: HashMap<(Bucket, Caller), u32>,
}

/// The call costs more than is left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    pub(super) retry_after_seconds: i64,
}

impl Accounts {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, day: NaiveDate::MIN, left: HashMap::new() }
    }

    pub(super) fn left(&mut self, bucket: Bucket, caller: Caller, now: DateTime<Utc>) -> u32 {
        *self.account(bucket, caller, now)
    }

    pub(super) fn set(&mut self, bucket: Bucket, caller: Caller, left: u32, now: DateTime<Utc>) {
        *self.account(bucket, caller, now) = left;
    }

    /// Takes `cost` and tells what is left then.
    pub(super) fn charge(
        &mut self,
        bucket: Bucket,
        caller: Caller,
        cost: u32,
        now: DateTime<Utc>,
    ) -> Result<u32, Exhausted> {
        let left = self.account(bucket, caller, now);
        match left.checked_sub(cost) {
            Some(rest) => {
                *left = rest;
                Ok(rest)
            }
            None => Err(Exhausted { retry_after_seconds: 86_400 - now.timestamp().rem_euclid(86_400) }),
        }
    }

    fn account(&mut self, bucket: Bucket, caller: Caller, now: DateTime<Utc>) -> &mut u32 {
        if self.day != now.date_naive() {
            self.day = now.date_naive();
            self.left.clear();
        }
        let full = match caller {
            Caller::SignedIn => self.budget.signed_in,
            Caller::Anonymous => self.budget.anonymous,
        };
        self.left.entry((bucket, caller)).or_insert(full)
    }
}

/// What `/states/all` costs: by area, and without a box as much as the globe.
#[must_use]
pub fn states_cost(area: Option<&Area>) -> u32 {
    match area.map(Area::square_degrees) {
        Some(size) if size <= 25.0 => 1,
        Some(size) if size <= 100.0 => 2,
        Some(size) if size <= 400.0 => 3,
        _ => 4,
    }
}

/// What `/flights/*` costs for a window of at most two UTC days: little for today alone, else as much
/// as OpenSky says for one or two days.
#[must_use]
pub fn flights_cost(begin: NaiveDate, today: NaiveDate) -> u32 {
    if begin >= today { 4 } else { 30 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn each_bucket_and_each_caller_has_credits_of_its_own() {
        let now = at("2021-10-07T13:14:45Z");
        let mut accounts = Accounts::new(Budget { signed_in: 40, anonymous: 4 });
        assert_eq!(accounts.charge(Bucket::Flights, Caller::SignedIn, 30, now), Ok(10));
        let seconds_to_midnight = 38_715;
        assert_eq!(
            accounts.charge(Bucket::Flights, Caller::SignedIn, 30, now),
            Err(Exhausted { retry_after_seconds: seconds_to_midnight })
        );
        assert_eq!(accounts.charge(Bucket::Flights, Caller::SignedIn, 10, now), Ok(0));
        assert_eq!(accounts.charge(Bucket::States, Caller::SignedIn, 1, now), Ok(39));
        assert_eq!(accounts.charge(Bucket::States, Caller::Anonymous, 1, now), Ok(3));
    }

    #[test]
    fn a_new_day_brings_new_credits() {
        let mut accounts = Accounts::new(Budget { signed_in: 40, anonymous: 4 });
        let late = at("2021-10-07T23:59:59Z");
        accounts.set(Bucket::States, Caller::SignedIn, 0, late);
        assert_eq!(
            accounts.charge(Bucket::States, Caller::SignedIn, 1, late),
            Err(Exhausted { retry_after_seconds: 1 })
        );
        assert_eq!(accounts.left(Bucket::States, Caller::SignedIn, at("2021-10-08T00:00:00Z")), 40);
    }

    #[test]
    fn a_box_costs_by_its_area_and_flights_by_their_days() {
        let square = |side: f64| Area { south: 0.0, west: 0.0, north: side, east: side };
        let costs = [5.0, 5.1, 10.0, 10.1, 20.0, 20.1].map(|side| states_cost(Some(&square(side))));
        assert_eq!((costs, states_cost(None)), ([1, 2, 2, 3, 3, 4], 4));
        let (yesterday, today) = (at("2021-10-06T00:00:00Z").date_naive(), at("2021-10-07T00:00:00Z").date_naive());
        assert_eq!((flights_cost(today, today), flights_cost(yesterday, today)), (4, 30));
    }
}
