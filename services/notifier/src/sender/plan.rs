//! What becomes of the alerts that are due: sent, kept for later, or settled unsent.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{Sender, Stop};
use crate::{
    core::{
        chat_lookup::next_lookup,
        ending::Unsent,
        reach::{ChatLink, Reason, rests, times},
    },
    store::{DueAlert, Postponed},
    user_client::Contact,
};

/// How long to leave one person alone whom user-manager cannot answer about while it answers others.
const PERSON_REST: Duration = Duration::from_secs(5);
/// How often in a row a chat must have been out of reach before what waits for it is given up.
const CERTAIN_REFUSALS: u32 = 3;

/// What is to be done about due alerts.
#[derive(Default)]
pub(super) struct SendPlan {
    /// To be sent, to these chats.
    pub(super) send: Vec<(ChatLink, DueAlert)>,
    /// To be looked at later.
    later: Vec<Postponed>,
    /// Whether something was settled or postponed, after which something else may be due.
    pub(super) changed: bool,
}

impl Sender {
    /// Asks where each alert goes, and settles or postpones what goes nowhere. `None` when user-manager answers about
    /// none of the users.
    pub(super) async fn plan(&mut self, due: Vec<DueAlert>) -> Result<Option<SendPlan>, Stop> {
        let user_client = &self.deliveries.user_client;
        let asked = due.iter().map(|alert| user_client.contact(&alert.email, alert.user_id, &alert.context));
        let contacts = join_all(asked).await;
        let nobody_is_known = contacts.iter().all(Result::is_err);
        let mut plan = SendPlan::default();
        for (alert, contact) in due.into_iter().zip(contacts) {
            match contact {
                Ok(contact) => self.place(&mut plan, alert, contact).await?,
                Err(error) => {
                    tracing::debug!(alert.id = %alert.event_id, "ask where to send: {error}");
                    self.resting.insert(alert.email, Instant::now() + PERSON_REST);
                }
            }
        }
        if nobody_is_known {
            return Ok(None);
        }
        if !plan.later.is_empty() {
            self.deliveries.store.postpone(&self.term, &plan.later).await?;
            plan.changed = true;
        }
        Ok(Some(plan))
    }

    /// Whether an alert is sent, kept for later, or settled.
    async fn place(&self, plan: &mut SendPlan, mut alert: DueAlert, contact: Contact) -> Result<(), Stop> {
        match contact {
            Contact::Chat(link) if !rests(alert.refusal, link) => {
                alert.history.refusals = times(alert.refusal, link);
                plan.send.push((link, alert));
                Ok(())
            }
            Contact::Chat(_) => self.wait_for_chat(plan, alert, None).await,
            Contact::NoChat => self.wait_for_chat(plan, alert, Some(Reason::NoChat)).await,
            Contact::Replaced => self.cancel(plan, &alert).await,
            Contact::Unknown => {
                let sending = &self.deliveries.sending;
                if alert.gone_for.is_some_and(|long| long >= sending.gone_timeout) && self.trusts_ages() {
                    return self.cancel(plan, &alert).await;
                }
                plan.later.push(Postponed { email: alert.email, wait: sending.contact_interval, is_gone: true });
                Ok(())
            }
        }
    }

    /// An alert for a user who has no chat that can be reached: kept for a day, then undeliverable.
    async fn wait_for_chat(&self, plan: &mut SendPlan, alert: DueAlert, reason: Option<Reason>) -> Result<(), Stop> {
        let (interval, max_wait) = (self.deliveries.sending.contact_interval, self.deliveries.sending.contact_timeout);
        let wait = match next_lookup(alert.age, interval, max_wait) {
            Some(wait) => wait,
            None if !self.trusts_ages() || !is_certain(&alert, reason) => interval,
            None => {
                plan.changed = true;
                return self.settle(&alert, max_wait, (Unsent::Undeliverable, reason)).await;
            }
        };
        plan.later.push(Postponed { email: alert.email, wait, is_gone: false });
        Ok(())
    }

    async fn cancel(&self, plan: &mut SendPlan, alert: &DueAlert) -> Result<(), Stop> {
        plan.changed = true;
        self.settle(alert, Duration::ZERO, (Unsent::Cancelled, None)).await
    }

    /// Whether the database's clock has run without a step for long enough to give something up by it.
    fn trusts_ages(&self) -> bool {
        self.clock.steady_for(Instant::now()) >= self.deliveries.sending.clock_steady_time
    }

    async fn settle(
        &self,
        alert: &DueAlert,
        older_than: Duration,
        (end, reason): (Unsent, Option<Reason>),
    ) -> Result<(), Stop> {
        let whose = (alert.email.as_str(), alert.user_id);
        let settled = self.deliveries.store.settle_unsent(&self.term, whose, older_than, (end, reason)).await?;
        self.deliveries.metrics.ended_unsent(end, settled);
        tracing::info!(alert.id = %alert.event_id, settled, "alerts for one person end as {}", end.as_str());
        Ok(())
    }
}

/// Whether it was said often enough that there is no chat, or none that can be reached. After an outage an
/// alert may be old when it is tried for the first time, and one wrong answer must not give it up.
fn is_certain(alert: &DueAlert, reason: Option<Reason>) -> bool {
    let was_refused = alert.refusal.is_some_and(|refusal| refusal.times >= CERTAIN_REFUSALS);
    alert.was_awaited && (reason.is_some() || was_refused)
}
