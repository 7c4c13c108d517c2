//! Which airports share a box.

use super::LiveNeed;
use crate::core::boxes::{self, BoundingBoxQuery};

/// The boxes around the airports at `chosen`; their airports are places in `chosen`.
pub(super) fn boxes_around(needs: &[LiveNeed], chosen: &[usize]) -> Vec<BoundingBoxQuery> {
    let (alone, together): (Vec<usize>, Vec<usize>) = (0..chosen.len()).partition(|place| needs[chosen[*place]].alone);
    let calls = |places: &[usize]| {
        let positions: Vec<_> = places.iter().map(|place| needs[chosen[*place]].position).collect();
        let mut calls = boxes::calls(&positions);
        for call in &mut calls {
            call.airports.iter_mut().for_each(|airport| *airport = places[*airport]);
        }
        calls
    };
    let mut packed = calls(&together);
    packed.extend(alone.chunks(1).flat_map(calls));
    packed
}
