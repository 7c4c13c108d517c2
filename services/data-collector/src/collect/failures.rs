//! Answers that cannot be used, in the log.

use shell::{error::with_causes, log_limit::LogLimit};

use crate::{core::credits::Bucket, opensky::CallError};

/// What was logged of answers that cannot be used, so that one that comes again for every airport and in every
/// cycle has one line a minute.
#[derive(Default)]
pub struct Failures {
    states: LogLimit<&'static str>,
    flights: LogLimit<&'static str>,
}

impl Failures {
    fn of(&self, bucket: Bucket) -> &LogLimit<&'static str> {
        match bucket {
            Bucket::States => &self.states,
            Bucket::Flights => &self.flights,
        }
    }

    /// A question about `what` has no usable answer.
    pub(super) fn failed(&self, bucket: Bucket, what: &str, error: &CallError) {
        let Some(repeats) = self.of(bucket).line(error.label()) else { return };
        let error = with_causes(error);
        if repeats == 0 {
            tracing::warn!("{} are unknown: {what}: {error}", figures(bucket));
        } else {
            tracing::warn!(repeats, "{} are still unknown: {what}: {error}", figures(bucket));
        }
    }

    /// A question was answered.
    pub(super) fn answered(&self, bucket: Bucket) {
        if let Some(failures) = self.of(bucket).over() {
            tracing::info!(failures, "{} are known again", figures(bucket));
        }
    }
}

fn figures(bucket: Bucket) -> &'static str {
    match bucket {
        Bucket::States => "live figures",
        Bucket::Flights => "flights",
    }
}
