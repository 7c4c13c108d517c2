use std::time::Duration;

use runtime::backoff::Backoff;

/// The longest a dependency may ask us to stay away, so that a wrong header cannot stop a worker.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// Why a batch was not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A dependency is away; it may have said when to come back.
    Unavailable { retry_after: Option<Duration> },
    /// We are wrong.
    Broken,
}

/// What the loop does after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    /// Pause the partition this long, then try the same records again.
    PauseFor(Duration),
    /// Stop with the offset unstored.
    Stop,
}

/// The action after `attempt` earlier failures of the same batch; `jitter` is from 0 to 1.
pub fn action_for(kind: FailureKind, attempt: u32, backoff: &Backoff, jitter: f64) -> FailureAction {
    match kind {
        FailureKind::Unavailable { retry_after: None } => FailureAction::PauseFor(backoff.wait(attempt, jitter)),
        // Partitions that were sent away together do not come back together, and none before its time.
        FailureKind::Unavailable { retry_after: Some(asked) } => {
            let asked = asked.min(LONGEST_ASKED);
            FailureAction::PauseFor(asked + (asked / 10).mul_f64(jitter.clamp(0.0, 1.0)))
        }
        FailureKind::Broken => FailureAction::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_action() {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let away = |retry_after| FailureKind::Unavailable { retry_after };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (kind, attempt, failure_action) in [
            (away(None), 0, FailureAction::PauseFor(Duration::from_millis(200))),
            (away(None), 9, FailureAction::PauseFor(Duration::from_secs(5))),
            (away(seconds(30)), 0, FailureAction::PauseFor(Duration::from_secs(33))),
            (away(seconds(30)), 9, FailureAction::PauseFor(Duration::from_secs(33))),
            (away(seconds(36_000)), 0, FailureAction::PauseFor(LONGEST_ASKED + LONGEST_ASKED / 10)),
            (FailureKind::Broken, 0, FailureAction::Stop),
        ] {
            assert_eq!(action_for(kind, attempt, &backoff, 1.0), failure_action, "{kind:?} after {attempt}");
        }
        assert_eq!(action_for(away(seconds(30)), 0, &backoff, 0.0), FailureAction::PauseFor(Duration::from_secs(30)));
    }
}
