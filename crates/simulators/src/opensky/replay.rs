//! The replay's calendar: both recordings on one afternoon.

use chrono::{DateTime, TimeDelta, Utc};

/// 7 October 2021, 00:00 UTC: the day that is replayed, Paris as it was recorded.
const DAY: i64 = 1_633_564_800;

/// How far San Francisco's flights are moved: 22 March 2020 becomes 6 October 2021, and so on.
pub(super) const SAN_FRANCISCO_SHIFT: i64 = 563 * 86_400;

/// When the replay begins: 12:10 UTC. Before it the cut of the recording shows.
#[must_use]
pub fn begins_at() -> DateTime<Utc> {
    at(12, 10)
}

/// When the recording of Paris has ended: 14:55 UTC. After it the cut of the recording shows.
#[must_use]
pub fn ends_at() -> DateTime<Utc> {
    at(14, 55)
}

/// When the flights of 6 October are published: 12:45 UTC.
#[must_use]
pub fn published_at() -> DateTime<Utc> {
    at(12, 45)
}

/// What the replay can tell about live traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayState {
    /// Nothing yet.
    NotBegun,
    /// What flew then.
    Running,
    /// Nothing any more: live is unknown from then on.
    Ended,
}

impl ReplayState {
    /// What the replay can tell when its clock shows `now`.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        if now < begins_at() {
            Self::NotBegun
        } else if now < ends_at() {
            Self::Running
        } else {
            Self::Ended
        }
    }
}

fn at(hour: i64, minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(DAY + hour * 3600 + minute * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_that_of_7_october_2021() {
        let shown = [begins_at(), published_at(), ends_at()].map(|time| time.to_rfc3339());
        let expected = ["2021-10-07T12:10:00+00:00", "2021-10-07T12:45:00+00:00", "2021-10-07T14:55:00+00:00"];
        assert_eq!(shown, expected);
        let moved = "2020-03-22T08:00:00Z".parse::<DateTime<Utc>>().expect("a time");
        let moved = moved + TimeDelta::seconds(SAN_FRANCISCO_SHIFT);
        assert_eq!(moved.to_rfc3339(), "2021-10-06T08:00:00+00:00");
    }

    #[test]
    fn the_replay_runs_from_its_beginning_up_to_its_end() {
        let second = TimeDelta::seconds(1);
        assert_eq!(ReplayState::at(begins_at() - second), ReplayState::NotBegun);
        assert_eq!(ReplayState::at(begins_at()), ReplayState::Running);
        assert_eq!(ReplayState::at(ends_at() - second), ReplayState::Running);
        assert_eq!(ReplayState::at(ends_at()), ReplayState::Ended);
    }
}
