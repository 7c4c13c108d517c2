//! What follows from a batch: decided on copies, so that a batch which cannot be completed leaves
//! no trace and is decided again.

use std::collections::HashMap;

use events::{AlertEvent, AlertKind};
use uuid::Uuid;

use super::{CachedState, InterestEvent, Message, Outcome, Rejection, State, compose, settle};

/// What follows from a batch.
#[derive(Debug)]
pub struct BatchPlan<'a> {
    /// How each message was settled, in order.
    pub outcomes: Vec<Result<Outcome, Rejection>>,
    /// What to tell, in order.
    pub alerts: Vec<PendingAlert<'a>>,
    /// What becomes of the interests and identities that the batch is about.
    pub touched: HashMap<Uuid, Touched>,
}

/// An alert, and what raised it.
#[derive(Debug)]
pub struct PendingAlert<'a> {
    /// Which message of the batch raised it.
    pub index: usize,
    /// The interest or identity it is about.
    pub about: Uuid,
    /// What happened.
    pub kind: AlertKind,
    /// What is sent.
    pub event: AlertEvent<'a>,
}

/// What becomes of one interest or identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Where it stands after the batch.
    pub cached: CachedState,
    /// Whether that must be in its row before the offset is stored.
    pub write: bool,
    /// Whether it is an identity of the legacy format. Its messages may come from several
    /// partitions, so it is read from the database each time and every message is written.
    pub is_legacy: bool,
}

/// Decides about a batch. `known` says where the interests stand that it is about; one that is not in it has never been
/// seen.
#[must_use]
pub fn plan<'a>(messages: &'a [Result<Message<'a>, Rejection>], known: &HashMap<Uuid, CachedState>) -> BatchPlan<'a> {
    let mut plan =
        BatchPlan { outcomes: Vec::with_capacity(messages.len()), alerts: Vec::new(), touched: HashMap::new() };
    for (index, message) in messages.iter().enumerate() {
        let outcome = match message {
            Ok(message) => Ok(plan.settle(index, message, known)),
            Err(rejection) => Err(rejection.clone()),
        };
        plan.outcomes.push(outcome);
    }
    // A row that is written is written as of the end of the batch.
    plan.touched.values_mut().filter(|touched| touched.write).for_each(|touched| touched.cached.dirty = false);
    plan
}

impl<'a> BatchPlan<'a> {
    fn settle(&mut self, index: usize, message: &'a Message<'a>, known: &HashMap<Uuid, CachedState>) -> Outcome {
        let id = message.id();
        let is_legacy = message.is_legacy();
        let event = match message {
            Message::Removed(_) => InterestEvent::Removed,
            Message::Reading(reading) => reading.event(),
        };
        let touched = self.touched.entry(id).or_insert_with(|| {
            let cached = known.get(&id).copied().unwrap_or_default();
            Touched { cached, write: false, is_legacy }
        });
        let settled = settle(id, &touched.cached, &event);
        let moved = settled.decision.next != touched.cached.state;
        touched.write |= settled.write || (is_legacy && moved);
        touched.cached = touched.cached.after(&settled);
        if let (Message::Reading(reading), Some(crossing)) = (message, settled.decision.crossing) {
            self.alerts.push(PendingAlert {
                index,
                about: id,
                kind: crossing.kind(),
                event: compose(reading, crossing),
            });
        }
        settled.decision.outcome
    }

    /// The rows to write: those of interests, or those of identities of the legacy format.
    pub fn rows(&self, is_legacy: bool) -> Vec<(Uuid, State)> {
        let rows = self.touched.iter().filter(|(_, touched)| touched.write && touched.is_legacy == is_legacy);
        rows.map(|(id, touched)| (*id, touched.cached.state)).collect()
    }
}

/// Alerts in as many turns as it takes to have each interest only once in a turn, and in its order.
#[must_use]
pub fn in_rounds<'r, 'a>(alerts: Vec<&'r PendingAlert<'a>>) -> Vec<Vec<&'r PendingAlert<'a>>> {
    let mut before: HashMap<Uuid, usize> = HashMap::new();
    let mut rounds: Vec<Vec<_>> = Vec::new();
    for alert in alerts {
        let turn = before.entry(alert.about).or_default();
        if *turn == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*turn].push(alert);
        *turn += 1;
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{WireRecord, read};

    fn legacy(offset: i64, value: &'static str) -> Result<Message<'static>, Rejection> {
        let value = Some(value.as_bytes());
        read(&WireRecord { topic: "t", partition: 0, offset, key: None, value, ce_type: None })
    }

    const WITHIN: &str =
        r#"{"user_email":"a@b.c","airport_code":"LICC","flight_count":1,"high_value":2,"low_value":null}"#;
    const ABOVE: &str =
        r#"{"user_email":"a@b.c","airport_code":"LICC","flight_count":3,"high_value":2,"low_value":null}"#;

    #[test]
    fn a_batch_is_decided_in_order_around_what_is_rejected() {
        let messages = [legacy(0, ABOVE), legacy(1, "{"), legacy(1, ABOVE), legacy(2, WITHIN), legacy(3, WITHIN)];
        let plan = plan(&messages, &HashMap::new());
        let outcomes: Vec<_> = plan.outcomes.iter().map(|outcome| outcome.as_ref().ok().copied()).collect();
        let (told, quiet) = (Some(Outcome::Alerted), Some(Outcome::Quiet));
        assert_eq!(outcomes, [told, None, quiet, told, quiet]);
        let kinds: Vec<_> = plan.alerts.iter().map(|alert| (alert.index, alert.kind)).collect();
        assert_eq!(kinds, [(0, AlertKind::High), (3, AlertKind::Recovered)]);
    }

    #[test]
    fn an_interest_has_one_alert_in_a_turn_and_its_alerts_are_in_order() {
        let another = ABOVE.replace("a@b.c", "d@e.f").leak();
        let messages = [legacy(0, ABOVE), legacy(1, WITHIN), legacy(2, another), legacy(3, ABOVE)];
        let plan = plan(&messages, &HashMap::new());
        let rounds = in_rounds(plan.alerts.iter().collect());
        let indexes: Vec<Vec<_>> = rounds.iter().map(|turn| turn.iter().map(|alert| alert.index).collect()).collect();
        assert_eq!(indexes, [vec![0, 2], vec![1], vec![3]]);
        assert!(in_rounds(Vec::new()).is_empty());
    }

    #[test]
    fn every_message_of_the_legacy_format_is_written() {
        let first = [legacy(0, WITHIN)];
        let first = plan(&first, &HashMap::new());
        let known = first.touched.iter().map(|(id, touched)| (*id, touched.cached)).collect();
        let second = [legacy(1, WITHIN)];
        let rows = plan(&second, &known).rows(true);
        assert_eq!(rows[0].1.last.map(|last| last.minor), Some(1));
        assert!(plan(&second, &known).rows(false).is_empty());
    }
}
