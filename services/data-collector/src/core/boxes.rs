//! Which boxes to ask for: neighbouring airports share one where that saves credits.

use super::{
    credits,
    geo::{GeoBox, LIVE_RADIUS_METRES, Position},
};

/// Above this many boxes pairs are no longer tried out: one box around all costs at most four credits
/// anyway, and trying grows with the cube of the number.
const MOST_TO_PAIR: usize = 150;

/// One call: a box, and the airports it serves, as their places in the list that was given.
///
/// An airport at the antimeridian is served by two calls together.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundingBoxQuery {
    /// The box to ask for.
    pub area: GeoBox,
    /// Which airports have surroundings in it.
    pub airports: Vec<usize>,
}

impl BoundingBoxQuery {
    /// What the call costs, in credits.
    #[must_use]
    pub fn cost(&self) -> u32 {
        credits::states_cost(&self.area)
    }
}

/// The calls that cover the surroundings of every airport, never dearer than a box for each.
#[must_use]
pub fn calls(airports: &[Position]) -> Vec<BoundingBoxQuery> {
    let mut calls: Vec<BoundingBoxQuery> = Vec::new();
    for (index, airport) in airports.iter().enumerate() {
        for area in airport.surroundings(LIVE_RADIUS_METRES) {
            calls.push(BoundingBoxQuery { area, airports: vec![index] });
        }
    }
    if calls.len() > MOST_TO_PAIR {
        return merge_all(calls);
    }
    while let Some((first, second)) = best_pair(&calls) {
        let other = calls.swap_remove(second);
        calls[first] = merged(&calls[first], &other);
    }
    if cost(&calls) > credits::STATES_COST_OF_THE_GLOBE { merge_all(calls) } else { calls }
}

/// What all `calls` cost together, in credits.
#[must_use]
pub fn cost(calls: &[BoundingBoxQuery]) -> u32 {
    calls.iter().map(BoundingBoxQuery::cost).sum()
}

/// The pair that saves most by being merged; of equal ones the smallest box.
fn best_pair(calls: &[BoundingBoxQuery]) -> Option<(usize, usize)> {
    let mut best: Option<(u32, f64, (usize, usize))> = None;
    for first in 0..calls.len() {
        for second in first + 1..calls.len() {
            let area = calls[first].area.around(&calls[second].area);
            let apart = calls[first].cost() + calls[second].cost();
            let Some(saving) = apart.checked_sub(credits::states_cost(&area)).filter(|saving| *saving > 0) else {
                continue;
            };
            let size = area.square_degrees();
            if best.is_none_or(|(most, smallest, _)| saving > most || (saving == most && size < smallest)) {
                best = Some((saving, size, (first, second)));
            }
        }
    }
    best.map(|(_, _, pair)| pair)
}

fn merge_all(calls: Vec<BoundingBoxQuery>) -> Vec<BoundingBoxQuery> {
    calls.into_iter().reduce(|all, call| merged(&all, &call)).into_iter().collect()
}

fn merged(one: &BoundingBoxQuery, other: &BoundingBoxQuery) -> BoundingBoxQuery {
    let mut airports = one.airports.clone();
    airports.extend(other.airports.iter().filter(|airport| !one.airports.contains(airport)));
    BoundingBoxQuery { area: one.area.around(&other.area), airports }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(latitude: f64, longitude: f64) -> Position {
        Position { latitude, longitude }
    }

    #[test]
    fn neighbours_share_a_box_and_strangers_do_not() {
        let (charles_de_gaulle, orly, new_york) = (at(49.01, 2.55), at(48.72, 2.38), at(40.64, -73.78));
        let calls = calls(&[charles_de_gaulle, orly, new_york]);
        assert_eq!((calls.len(), cost(&calls)), (2, 2));
        assert!(calls.iter().any(|call| call.airports == [0, 1]), "{calls:?}");
    }

    #[test]
    fn the_whole_globe_is_the_dearest() {
        let spread: Vec<_> =
            (0..40).map(|step| at(f64::from(step) * 4.0 - 80.0, f64::from(step) * 8.0 - 170.0)).collect();
        let calls = calls(&spread);
        assert_eq!((calls.len(), cost(&calls)), (1, 4));
    }

    #[test]
    fn nothing_watched_asks_nothing() {
        assert!(calls(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn merging_never_costs_more_and_covers_every_circle(
            places in prop::collection::vec((-90.0..=90.0f64, -180.0..=180.0f64), 1..12),
            near in prop::collection::vec((48.0..50.0f64, 1.0..4.0f64), 0..4),
        ) {
            let airports: Vec<_> = places.into_iter().chain(near).map(|(latitude, longitude)| at(latitude, longitude)).collect();
            let together = calls(&airports);
            let apart: u32 = airports
                .iter()
                .flat_map(|airport| airport.surroundings(LIVE_RADIUS_METRES))
                .map(|area| credits::states_cost(&area))
                .sum();
            prop_assert!(cost(&together) <= apart);
            for (index, airport) in airports.iter().enumerate() {
                for own in airport.surroundings(LIVE_RADIUS_METRES) {
                    let covers = |call: &BoundingBoxQuery| call.airports.contains(&index) && call.area.around(&own) == call.area;
                    prop_assert!(together.iter().any(covers));
                }
            }
        }
    }
}
