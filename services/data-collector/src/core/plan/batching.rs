//! How what is due is batched into calls: boxes, directions and days.

use chrono::{DateTime, Utc};

use super::{
    CollectionStep, DaySelection, LiveNeed, Situation,
    neighbours::boxes_around,
    schedule::{self, DailyRequest, DailySchedule, LiveSchedule, Urgency},
};
use crate::core::{
    boxes::{self, BoundingBoxQuery},
    credits::end_of_day,
    day,
};

/// The step for live figures, and when each airport will be collected next.
pub(super) fn live(situation: &Situation, schedule: &LiveSchedule) -> (Option<CollectionStep>, Vec<DateTime<Utc>>) {
    let (now, needs, states) = (situation.now, &situation.live, &situation.states);
    let whole = boxes_around(needs, &schedule.chosen);
    let (airports, calls, regular) = if boxes::cost(&whole) <= states.remaining {
        (schedule.chosen.clone(), whole, schedule.regular)
    } else {
        let waiting = schedule.chosen.iter().copied().filter(|place| needs[*place].requested);
        let (airports, calls) = affordable(needs, waiting.collect(), states.remaining);
        (airports, calls, false)
    };
    let at_once = states.affordable_at(boxes::cost(&calls), now);
    let next_at = needs.iter().enumerate().map(|(place, need)| match (need.requested, airports.contains(&place)) {
        (true, true) => at_once,
        // It was tried a short while ago; whichever comes first is for the users who wait, too.
        (true, false) if need.free_at(situation) > now => {
            let own = boxes::cost(&boxes_around(needs, &[place]));
            need.free_at(situation).max(states.affordable_at(own, now))
        }
        (true, false) => at_once.max(end_of_day(now)),
        (false, _) => schedule.in_cycle(situation, need),
    });
    let next_at = next_at.collect();
    let step = (!airports.is_empty() && at_once <= now).then_some(CollectionStep::Live { airports, calls, regular });
    (step, next_at)
}

/// As many of the airports as `credits` suffice for, the one not tried for longest first.
fn affordable(needs: &[LiveNeed], mut airports: Vec<usize>, credits: u32) -> (Vec<usize>, Vec<BoundingBoxQuery>) {
    airports.sort_by_key(|place| (needs[*place].attempted_at, *place));
    loop {
        let calls = boxes_around(needs, &airports);
        if boxes::cost(&calls) <= credits {
            return (airports, calls);
        }
        airports.pop();
    }
}

/// The step for finished days.
pub(super) fn daily(situation: &Situation, schedule: &DailySchedule) -> Option<CollectionStep> {
    let now = situation.now;
    let requests = schedule.requests.iter().filter(|request| request.at <= now);
    let first = requests.min_by_key(|request| (request.urgency, situation.daily[request.airport].attempted_at));
    // A probe comes before anything that is only asked once more.
    if schedule.probe_at.is_some_and(|at| at <= now)
        && first.is_none_or(|request| request.urgency == Urgency::OnceMore)
        && let Some(place) = schedule::best_probe(situation)
    {
        let direction = situation.daily[place].directions.first().map(|(direction, _)| *direction);
        let directions = direction.into_iter().collect();
        return Some(CollectionStep::Daily { airport: place, directions, days: DaySelection::Probe });
    }
    first.map(|request| step(situation, schedule, request))
}

fn step(situation: &Situation, schedule: &DailySchedule, request: &DailyRequest) -> CollectionStep {
    let all = || situation.daily[request.airport].directions.iter().map(|(direction, _)| *direction).collect();
    let directions = if request.urgency == Urgency::OnceMore { all() } else { request.missing.clone() };
    let yesterday = schedule.target == day::yesterday(situation.now);
    let days = if yesterday || request.probing {
        DaySelection::Newest
    } else if request.for_waiting {
        DaySelection::NewestForWaiting
    } else {
        DaySelection::DayBefore
    };
    CollectionStep::Daily { airport: request.airport, directions, days }
}
