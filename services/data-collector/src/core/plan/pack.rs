//! How what is due is packed into calls: boxes, directions and days.

use chrono::{DateTime, Utc};

use super::{
    AskFor, LiveNeed, Situation, Step,
    due::{self, Ask, DailyDue, LiveDue, Urgency},
    neighbours::boxes_around,
};
use crate::core::{
    boxes::{self, BoxCall},
    credits::end_of_day,
    day,
};

/// The step for live figures, and when each airport will be collected next.
pub(super) fn live(situation: &Situation, due: &LiveDue) -> (Option<Step>, Vec<DateTime<Utc>>) {
    let (now, needs, states) = (situation.now, &situation.live, &situation.states);
    let whole = boxes_around(needs, &due.chosen);
    let (airports, calls, regular) = if boxes::cost(&whole) <= states.remaining {
        (due.chosen.clone(), whole, due.regular)
    } else {
        let waiting = due.chosen.iter().copied().filter(|place| needs[*place].requested);
        let (airports, calls) = affordable(needs, waiting.collect(), states.remaining);
        (airports, calls, false)
    };
    let at_once = states.affordable_at(boxes::cost(&calls), now);
    let next_at = needs.iter().enumerate().map(|(place, need)| match (need.requested, airports.contains(&place)) {
        (true, true) => at_once,
        // It was tried a short while ago; whichever comes first is for whoever waits, too.
        (true, false) if need.free_at(situation) > now => {
            let own = boxes::cost(&boxes_around(needs, &[place]));
            need.free_at(situation).max(states.affordable_at(own, now))
        }
        (true, false) => at_once.max(end_of_day(now)),
        (false, _) => due.in_cycle(situation, need),
    });
    let next_at = next_at.collect();
    let step = (!airports.is_empty() && at_once <= now).then_some(Step::Live { airports, calls, regular });
    (step, next_at)
}

/// As many of the airports as `credits` suffice for, the one not tried for longest first.
fn affordable(needs: &[LiveNeed], mut airports: Vec<usize>, credits: u32) -> (Vec<usize>, Vec<BoxCall>) {
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
pub(super) fn daily(situation: &Situation, due: &DailyDue) -> Option<Step> {
    let now = situation.now;
    let asks = due.asks.iter().filter(|ask| ask.at <= now);
    let first = asks.min_by_key(|ask| (ask.urgency, situation.daily[ask.airport].attempted_at));
    // A probe comes before anything that is only asked once more.
    if due.probe_at.is_some_and(|at| at <= now)
        && first.is_none_or(|ask| ask.urgency == Urgency::OnceMore)
        && let Some(place) = due::best_probe(situation)
    {
        let direction = situation.daily[place].directions.first().map(|(direction, _)| *direction);
        let directions = direction.into_iter().collect();
        return Some(Step::Daily { airport: place, directions, days: AskFor::Probe });
    }
    first.map(|ask| step(situation, due, ask))
}

fn step(situation: &Situation, due: &DailyDue, ask: &Ask) -> Step {
    let all = || situation.daily[ask.airport].directions.iter().map(|(direction, _)| *direction).collect();
    let directions = if ask.urgency == Urgency::OnceMore { all() } else { ask.missing.clone() };
    let yesterday = due.target == day::yesterday(situation.now);
    let days = if yesterday || ask.probing {
        AskFor::Newest
    } else if ask.for_waiting {
        AskFor::NewestForWaiting
    } else {
        AskFor::DayBefore
    };
    Step::Daily { airport: ask.airport, directions, days }
}
