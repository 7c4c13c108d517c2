//! When rejecting one record after the other means that the fault is ours.

use std::num::NonZeroU32;

/// What may be done with a batch whose records were handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectDecision {
    /// How many records from the front are settled, once their dead letters are acknowledged.
    pub settled: usize,
    /// The run of rejects after that.
    pub run: u32,
    /// Whether the record after the settled ones is a reject too many.
    pub opens: bool,
}

/// How a record ended, as far as the run is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordEnd {
    /// It was processed, which ends a run.
    Done,
    /// It was left alone, which says nothing about those that are not.
    Skipped,
    /// It was rejected.
    Rejected,
}

/// How many records were rejected in a row, and whether one more may be.
#[derive(Clone, Debug)]
pub struct RejectRun {
    limit: NonZeroU32,
    run: u32,
    open: bool,
}

impl RejectRun {
    pub fn new(limit: NonZeroU32) -> Self {
        Self { limit, run: 0, open: false }
    }

    /// Judges a batch, given how its records ended, in order.
    pub fn judge(&self, ends: impl IntoIterator<Item = RecordEnd>) -> RejectDecision {
        let mut decision = RejectDecision { settled: 0, run: self.run, opens: false };
        for end in ends {
            decision.run = match end {
                RecordEnd::Done => 0,
                RecordEnd::Skipped => decision.run,
                RecordEnd::Rejected if self.open || decision.run >= self.limit.get() => {
                    decision.opens = true;
                    return decision;
                }
                RecordEnd::Rejected => decision.run + 1,
            };
            decision.settled += 1;
        }
        decision
    }

    /// Takes a decision over, once its dead letters are acknowledged.
    pub fn apply(&mut self, decision: &RejectDecision) {
        self.run = decision.run;
        self.open |= decision.opens;
    }

    /// The operator looked and says to go on: counts from zero. Answers whether it was open.
    pub fn reset(&mut self) -> bool {
        self.run = 0;
        std::mem::take(&mut self.open)
    }

    pub fn run(&self) -> u32 {
        self.run
    }

    pub fn is_open(&self) -> bool {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limit: u32) -> RejectRun {
        RejectRun::new(NonZeroU32::new(limit).expect("a limit"))
    }

    fn judge(run: &mut RejectRun, batch: &str) -> (usize, bool) {
        let decision = run.judge(batch.chars().map(|record| match record {
            'x' => RecordEnd::Rejected,
            's' => RecordEnd::Skipped,
            _ => RecordEnd::Done,
        }));
        run.apply(&decision);
        (decision.settled, decision.opens)
    }

    #[test]
    fn rejects_up_to_the_limit_pass_and_one_more_does_not() {
        for (batch, expected) in [
            ("", (0, false)),
            (".x.x.", (5, false)),
            ("xxx", (3, false)),
            ("xxxx", (3, true)),
            ("xxxx.", (3, true)),
            ("xx.xxx.x", (8, false)),
            (".xxxx", (4, true)),
            ("ssssssss", (8, false)),
            ("xsxsxsx", (6, true)),
        ] {
            assert_eq!(judge(&mut run(3), batch), expected, "{batch}");
        }
    }

    #[test]
    fn the_run_goes_on_from_batch_to_batch_until_a_success() {
        let mut run = run(3);
        assert_eq!(judge(&mut run, "xx"), (2, false));
        assert_eq!(judge(&mut run, "x."), (2, false));
        assert_eq!(run.run(), 0);
        assert_eq!(judge(&mut run, "xxx"), (3, false));
        assert_eq!(judge(&mut run, "x"), (0, true));
    }

    #[test]
    fn once_open_only_a_reset_closes_it() {
        let mut run = run(1);
        assert_eq!(judge(&mut run, "xx"), (1, true));
        // Other partitions go on, and their successes do not open it.
        assert_eq!(judge(&mut run, "..."), (3, false));
        assert_eq!(judge(&mut run, ".x."), (1, true));
        assert!(run.is_open());
        assert!(run.reset());
        assert_eq!(judge(&mut run, "x."), (2, false));
        assert!(!run.reset());
    }

    #[test]
    fn a_verdict_that_is_not_applied_changes_nothing() {
        let run = run(1);
        assert!(run.judge([RecordEnd::Rejected; 2]).opens);
        assert_eq!((run.run(), run.is_open()), (0, false));
    }
}
