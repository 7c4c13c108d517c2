//! Where an interest stands, and what one message changes about it.

use events::{Crossing, FlightCount};

/// Where an interest stands.
///
/// The level and the state of the data are two fields: a reading without a value leaves the level as it is, so that no
/// user is told twice because a source was down in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Which side of its thresholds the last known value was on.
    pub level: Level,
    /// Whether the last reading had a value.
    pub data: Data,
    /// The newest message that is settled; `None` before the first.
    pub last: Option<Sequence>,
    /// Whether the interest was removed. Nothing follows that.
    pub removed: bool,
}

/// Which side of its thresholds a value is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// No value has been seen.
    #[default]
    Unknown,
    /// Within the thresholds.
    Normal,
    /// Above the high threshold.
    High,
    /// Below the low threshold.
    Low,
}

/// Whether the last reading had a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Data {
    /// It had.
    #[default]
    Ok,
    /// It had none: the value is unknown.
    Missing,
}

/// The order of the messages of one interest: (version of the interest, number of the reading), or
/// (partition, offset) for the legacy format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence {
    /// The interest's version, or the partition.
    pub major: i64,
    /// The reading's number, or the offset.
    pub minor: i64,
}

/// The numbers of flights between which nothing is told. A side without a threshold is never crossed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Crossed by a greater number.
    pub high: Option<FlightCount>,
    /// Crossed by a smaller number.
    pub low: Option<FlightCount>,
}

/// One reading, as far as the decision needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Where it stands in the order of the interest's messages.
    pub sequence: Sequence,
    /// The number of flights; `None` when it is unknown.
    pub flight_count: Option<FlightCount>,
    /// The interest's thresholds at that time.
    pub thresholds: Thresholds,
}

/// What may happen to an interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterestEvent {
    /// A reading.
    Observed(Observation),
    /// Its removal.
    Removed,
}

/// How a message was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The user is told.
    Alerted,
    /// Nothing that anybody wants to know.
    Quiet,
    /// Not newer than what is settled already.
    Stale,
    /// About an interest that is removed, or the removal itself.
    Removed,
}

/// What follows from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where the interest stands from now on.
    pub next: State,
    /// How the message was settled.
    pub outcome: Outcome,
    /// What to tell, exactly when `outcome` is [`Outcome::Alerted`].
    pub crossing: Option<Crossing>,
}

/// Decides what follows from `event` for an interest that stands at `state`.
///
/// The new level depends on the message alone, never on the level before; what depends on that is only whether the user
/// is told. This is what makes repeated messages harmless.
#[must_use]
pub fn decide(state: &State, event: &InterestEvent) -> Decision {
    let silent = |next, outcome| Decision { next, outcome, crossing: None };
    let observed = match event {
        _ if state.removed => return silent(*state, Outcome::Removed),
        // The level goes with the interest; the sequence is of no use to anybody any more.
        InterestEvent::Removed => return silent(State { removed: true, ..State::default() }, Outcome::Removed),
        InterestEvent::Observed(observed) => observed,
    };
    if state.last.is_some_and(|last| observed.sequence <= last) {
        return silent(*state, Outcome::Stale);
    }
    let last = Some(observed.sequence);
    let Some(flight_count) = observed.flight_count else {
        return silent(State { data: Data::Missing, last, ..*state }, Outcome::Quiet);
    };
    let level = observed.thresholds.level_of(flight_count);
    let next = State { level, data: Data::Ok, last, removed: false };
    let crossing = crossing(state.level, level, flight_count, observed.thresholds);
    let outcome = if crossing.is_some() { Outcome::Alerted } else { Outcome::Quiet };
    Decision { next, outcome, crossing }
}

/// The change of level, if it is one that the user is told of.
fn crossing(before: Level, after: Level, flight_count: FlightCount, thresholds: Thresholds) -> Option<Crossing> {
    if before == after {
        return None;
    }
    match after {
        Level::High => Some(Crossing::High { flight_count, threshold: thresholds.high? }),
        Level::Low => Some(Crossing::Low { flight_count, threshold: thresholds.low? }),
        // The first value of a new interest is no recovery when it lies where it should.
        Level::Normal if before == Level::Unknown => None,
        Level::Normal => Some(Crossing::Recovered { flight_count }),
        Level::Unknown => None,
    }
}

impl Thresholds {
    /// The level of `flight_count`. Both comparisons are strict: a number on a threshold is within.
    #[must_use]
    pub fn level_of(self, flight_count: FlightCount) -> Level {
        if self.high.is_some_and(|high| flight_count > high) {
            Level::High
        } else if self.low.is_some_and(|low| flight_count < low) {
            Level::Low
        } else {
            Level::Normal
        }
    }
}

impl Level {
    /// The name used in SQL and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Low => "low",
        }
    }

    /// The level of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Unknown, Self::Normal, Self::High, Self::Low].into_iter().find(|level| level.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use events::AlertKind;

    use super::*;

    const LIMITS: Thresholds = Thresholds { high: Some(FlightCount::new(10)), low: Some(FlightCount::new(2)) };

    fn at(level: Level) -> State {
        State { level, last: (level != Level::Unknown).then_some(Sequence { major: 1, minor: 7 }), ..State::default() }
    }

    fn observed(minor: i64, flights: Option<u32>, thresholds: Thresholds) -> InterestEvent {
        let sequence = Sequence { major: 1, minor };
        InterestEvent::Observed(Observation { sequence, flight_count: flights.map(FlightCount::new), thresholds })
    }

    fn high_only(high: u32) -> Thresholds {
        Thresholds { high: Some(FlightCount::new(high)), low: None }
    }

    #[test]
    fn only_a_change_of_level_is_told() {
        use AlertKind::{High as ToldHigh, Low as ToldLow, Recovered};
        use Level::{High, Low, Normal, Unknown};
        for (before, flights, after, told) in [
            (Unknown, 5, Normal, None),
            (Unknown, 11, High, Some(ToldHigh)),
            (Unknown, 1, Low, Some(ToldLow)),
            (Normal, 5, Normal, None),
            (Normal, 11, High, Some(ToldHigh)),
            (Normal, 1, Low, Some(ToldLow)),
            (High, 12, High, None),
            (High, 5, Normal, Some(Recovered)),
            (High, 0, Low, Some(ToldLow)),
            (Low, 0, Low, None),
            (Low, 5, Normal, Some(Recovered)),
            (Low, 99, High, Some(ToldHigh)),
        ] {
            let decision = decide(&at(before), &observed(8, Some(flights), LIMITS));
            assert_eq!(decision.next.level, after, "{before:?} and {flights}");
            assert_eq!(decision.crossing.map(Crossing::kind), told, "{before:?} and {flights}");
            assert_eq!(decision.outcome == Outcome::Alerted, told.is_some(), "{before:?} and {flights}");
        }
    }

    #[test]
    fn a_value_on_a_threshold_is_within() {
        for (flights, level) in
            [(11, Level::High), (10, Level::Normal), (9, Level::Normal), (2, Level::Normal), (1, Level::Low)]
        {
            assert_eq!(LIMITS.level_of(FlightCount::new(flights)), level, "{flights}");
        }
    }

    #[test]
    fn a_missing_threshold_is_never_crossed() {
        let low_only = Thresholds { high: None, low: Some(FlightCount::new(2)) };
        assert_eq!(high_only(10).level_of(FlightCount::ZERO), Level::Normal);
        assert_eq!(low_only.level_of(FlightCount::MAX), Level::Normal);
        assert_eq!(Thresholds::default().level_of(FlightCount::MAX), Level::Normal);
    }

    #[test]
    fn a_crossing_names_the_threshold_that_was_crossed() {
        let crossing = |before, flights| decide(&at(before), &observed(8, Some(flights), LIMITS)).crossing.unwrap();
        let of = FlightCount::new;
        let high = Crossing::High { flight_count: of(11), threshold: of(10) };
        assert_eq!(crossing(Level::Normal, 11), high);
        assert_eq!(crossing(Level::Normal, 1), Crossing::Low { flight_count: of(1), threshold: of(2) });
        assert_eq!(crossing(Level::High, 5), Crossing::Recovered { flight_count: of(5) });
    }

    #[test]
    fn an_unknown_value_keeps_the_level_and_is_silent() {
        for level in [Level::Unknown, Level::Normal, Level::High, Level::Low] {
            let decision = decide(&at(level), &observed(8, None, LIMITS));
            assert_eq!((decision.next.level, decision.next.data), (level, Data::Missing));
            assert_eq!((decision.outcome, decision.crossing), (Outcome::Quiet, None));
            let again = decide(&decision.next, &observed(9, Some(5), LIMITS));
            assert_eq!(again.next.data, Data::Ok);
        }
    }

    #[test]
    fn a_value_that_comes_back_to_the_same_level_after_a_gap_is_silent() {
        let gap = decide(&at(Level::High), &observed(8, None, LIMITS)).next;
        assert_eq!(decide(&gap, &observed(9, Some(11), LIMITS)).crossing, None);
    }

    #[test]
    fn what_is_not_newer_is_stale() {
        for minor in [0, 6, 7] {
            let decision = decide(&at(Level::Normal), &observed(minor, Some(99), LIMITS));
            assert_eq!((decision.next, decision.outcome), (at(Level::Normal), Outcome::Stale), "{minor}");
        }
    }

    #[test]
    fn an_older_version_is_stale_whatever_its_number() {
        let event = InterestEvent::Observed(Observation {
            sequence: Sequence { major: 0, minor: 1_000 },
            flight_count: Some(FlightCount::new(99)),
            thresholds: LIMITS,
        });
        assert_eq!(decide(&at(Level::Normal), &event).outcome, Outcome::Stale);
    }

    #[test]
    fn a_new_version_goes_on_with_the_level() {
        let version_2 = |flights, thresholds| {
            InterestEvent::Observed(Observation {
                sequence: Sequence { major: 2, minor: 7 },
                flight_count: Some(FlightCount::new(flights)),
                thresholds,
            })
        };
        assert_eq!(decide(&at(Level::High), &version_2(11, LIMITS)).outcome, Outcome::Quiet);
        let told = decide(&at(Level::High), &version_2(11, high_only(20))).crossing.unwrap();
        assert_eq!(told.kind(), AlertKind::Recovered);
        assert_eq!(decide(&at(Level::Normal), &version_2(5, high_only(4))).crossing.unwrap().kind(), AlertKind::High);
    }

    #[test]
    fn nothing_follows_a_removal() {
        for level in [Level::Unknown, Level::High] {
            let removed = decide(&at(level), &InterestEvent::Removed);
            assert_eq!((removed.next.removed, removed.next.level), (true, Level::Unknown));
            assert_eq!((removed.outcome, removed.crossing), (Outcome::Removed, None));
            for event in [observed(99, Some(99), LIMITS), observed(99, None, LIMITS), InterestEvent::Removed] {
                let late = decide(&removed.next, &event);
                assert_eq!((late.next, late.outcome, late.crossing), (removed.next, Outcome::Removed, None));
            }
        }
    }

    #[test]
    fn a_message_settled_twice_is_told_once() {
        let event = observed(8, Some(11), LIMITS);
        let once = decide(&at(Level::Normal), &event);
        let twice = decide(&once.next, &event);
        assert_eq!((twice.next, twice.outcome, twice.crossing), (once.next, Outcome::Stale, None));
    }
}
