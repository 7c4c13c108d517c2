//! The report on the credits, as text.

use chrono::{DateTime, TimeDelta, Utc};

use crate::core::plan::BudgetReport;

/// How the buckets fare: "states: 3120 credits, lasts until 23:59; flights: …".
pub(super) fn in_words(budget_report: &[BudgetReport], now: DateTime<Utc>) -> String {
    budget_report.iter().map(|bucket| bucket_in_words(bucket, now)).collect::<Vec<_>>().join("; ")
}

fn bucket_in_words(budget_report: &BudgetReport, now: DateTime<Utc>) -> String {
    let bucket = budget_report.bucket.as_str();
    let credits = budget_report.remaining;
    let words = match (budget_report.paused_until, budget_report.pace) {
        (Some(until), _) => format!("asked to be silent until {}", until.format("%d %b %H:%M UTC")),
        (None, _) if budget_report.lasts_until <= now => "not enough until midnight UTC".to_owned(),
        (None, pace) => {
            // The last minute of the day says more to people than midnight.
            let until = (budget_report.lasts_until - TimeDelta::seconds(1)).format("%H:%M UTC");
            let pace = pace.map(|pace| format!(", a round every {} s", pace.num_seconds())).unwrap_or_default();
            format!("lasts until {until}{pace}")
        }
    };
    format!("{bucket}: {credits} credits, {words}")
}

/// What was logged last, so that only changes are.
#[derive(Default)]
pub(super) struct LastLogged {
    last: Vec<(Option<DateTime<Utc>>, Option<TimeDelta>, bool)>,
}

impl LastLogged {
    /// Whether the report differs from the last one that was news: a pause began or ended, a bucket
    /// ran out or was filled, or the pace changed by a quarter.
    pub(super) fn is_news(&mut self, budget_report: &[BudgetReport]) -> bool {
        let now: Vec<_> =
            budget_report.iter().map(|bucket| (bucket.paused_until, bucket.pace, bucket.remaining == 0)).collect();
        let same = self.last.len() == now.len()
            && self
                .last
                .iter()
                .zip(&now)
                .all(|(before, now)| before.0 == now.0 && before.2 == now.2 && is_about(before.1, now.1));
        if !same {
            self.last = now;
        }
        !same
    }
}

fn is_about(before: Option<TimeDelta>, now: Option<TimeDelta>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => (before - now).abs() * 4 <= before,
        (before, now) => before == now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::credits::Bucket;

    #[test]
    fn the_budget_report_is_logged_in_words_and_only_when_it_changes() {
        let now: DateTime<Utc> = "2026-11-21T10:00:00Z".parse().expect("a time");
        let end: DateTime<Utc> = "2026-11-22T00:00:00Z".parse().expect("a time");
        let pace = Some(TimeDelta::seconds(300));
        let states =
            BudgetReport { bucket: Bucket::States, remaining: 3120, lasts_until: end, pace, paused_until: None };
        assert_eq!(in_words(&[states], now), "states: 3120 credits, lasts until 23:59 UTC, a round every 300 s");
        let paused = BudgetReport { paused_until: Some(end), ..states };
        assert_eq!(in_words(&[paused], now), "states: 3120 credits, asked to be silent until 22 Nov 00:00 UTC");
        let mut last_logged = LastLogged::default();
        assert!(last_logged.is_news(&[states]));
        assert!(!last_logged.is_news(&[BudgetReport {
            remaining: 3119,
            pace: Some(TimeDelta::seconds(310)),
            ..states
        }]));
        assert!(last_logged.is_news(&[paused]));
        assert!(last_logged.is_news(&[BudgetReport { remaining: 0, ..states }]));
    }
}
