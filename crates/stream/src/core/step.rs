use std::time::Duration;

use shell::backoff::Backoff;

/// The longest a dependency may ask us to stay away, so that a wrong header cannot stop a worker.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// What became of a batch that was not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A dependency is away; it may have said when to come back.
    Unavailable { retry_after: Option<Duration> },
    /// We are wrong.
    Broken,
}

/// What the loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Hold the partition this long, then try the same records again.
    Hold(Duration),
    /// Stop with the offset unstored.
    Stop,
}

/// The next step after `attempt` earlier failures of the same batch; `jitter` is from 0 to 1.
pub fn next_step(trouble: Trouble, attempt: u32, backoff: &Backoff, jitter: f64) -> Step {
    match trouble {
        Trouble::Unavailable { retry_after: None } => Step::Hold(backoff.wait(attempt, jitter)),
        // Partitions that were sent away together do not come back together, and none before its time.
        Trouble::Unavailable { retry_after: Some(asked) } => {
            let asked = asked.min(LONGEST_ASKED);
            Step::Hold(asked + (asked / 10).mul_f64(jitter.clamp(0.0, 1.0)))
        }
        Trouble::Broken => Step::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_its_step() {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let away = |retry_after| Trouble::Unavailable { retry_after };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (trouble, attempt, step) in [
            (away(None), 0, Step::Hold(Duration::from_millis(200))),
            (away(None), 9, Step::Hold(Duration::from_secs(5))),
            (away(seconds(30)), 0, Step::Hold(Duration::from_secs(33))),
            (away(seconds(30)), 9, Step::Hold(Duration::from_secs(33))),
            (away(seconds(36_000)), 0, Step::Hold(LONGEST_ASKED + LONGEST_ASKED / 10)),
            (Trouble::Broken, 0, Step::Stop),
        ] {
            assert_eq!(next_step(trouble, attempt, &backoff, 1.0), step, "{trouble:?} after {attempt}");
        }
        assert_eq!(next_step(away(seconds(30)), 0, &backoff, 0.0), Step::Hold(Duration::from_secs(30)));
    }
}
