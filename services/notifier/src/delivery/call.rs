//! The call of one attempt, what its answer means, and the outcome in the ledger.

use std::time::{Duration, Instant};

use pg::is_unavailable;
use runtime::fault;
use tokio::time::timeout;

use super::{Deliveries, DeliveryAttempt, Slot, State};
use crate::{
    core::{
        ending::{self, Ending, Next, Outcome, Unsent, decide},
        message::{Markup, compose},
        rate_limit_scope::RateLimitScope,
        rate_limiter::ChatId,
        reach::ChatLink,
        send_result::{SendResult, TelegramFault},
        telegram_breaker::FaultScope,
    },
    store::{AttemptId, DueAlert},
};

/// How long one try to write an outcome may take, and how long to wait before the next.
const RECORD_LIMIT: Duration = Duration::from_secs(3);
const RECORD_REST: Duration = Duration::from_millis(250);
/// How long a stop waits for outcomes that the ledger does not take.
const RECORD_GRACE: Duration = Duration::from_secs(5);

impl Deliveries {
    pub(super) async fn make(&self, attempt: DeliveryAttempt) {
        let DeliveryAttempt { id, written, link, slot, alert } = attempt;
        let chat = slot.chat;
        fault::point("notifier.attempt-written");
        if written.is_too_old() {
            self.leave(id, link, slot, &alert).await;
            return;
        }
        let markup = if alert.history.plain_text { Markup::None } else { Markup::Html };
        let airport = airport_name(&alert.alert.airport_code);
        let text = compose(&alert.alert, airport, alert.missed.as_ref(), self.clock.now(), markup);
        let sent = Instant::now();
        let send_result = self.telegram.send(chat, &text, markup).await;
        fault::point("notifier.sent-not-recorded");
        drop(slot);
        let asked_to_wait = match send_result {
            SendResult::TooMany { retry_after } => Some(retry_after),
            _ => None,
        };
        let ending = self.judge(&alert, chat, send_result, sent);
        if let Some(wait) = asked_to_wait.filter(|_| ending.next == Next::Unchanged) {
            // Known here in any case; should the ledger not take it, a successor is told by Telegram.
            drop(timeout(RECORD_LIMIT, self.store.remember_silence(wait)).await);
        }
        match ending.next {
            Next::Moved { from, to } => {
                self.state().moved.insert(from, to);
            }
            // Where Telegram said that the group had gone to, there is none: the person's word counts again.
            Next::Kept { .. } if chat != link.chat => self.forget_migration(link.chat).await,
            _ => {}
        }
        self.note(&alert, &ending);
        self.finish(id, link, &ending).await;
    }

    /// The process stood still between the attempt's record and its call. Another one may have made the
    /// call meanwhile, so this one does not.
    async fn leave(&self, id: AttemptId, link: ChatLink, slot: Slot, alert: &DueAlert) {
        drop(slot);
        let breaker_state = {
            let mut state = self.state();
            state.breaker.not_sent(alert.event_id);
            state.breaker.state()
        };
        self.metrics.breaker(breaker_state);
        let ending = decide(ending::AttemptResult::NotMade, alert.history, self.sending.schedule, 0.0);
        self.note(alert, &ending);
        self.finish(id, link, &ending).await;
    }

    async fn finish(&self, id: AttemptId, link: ChatLink, ending: &Ending) {
        self.record(id, link, ending).await;
        self.state().in_flight.remove(&id);
        self.news.notify_one();
    }

    async fn forget_migration(&self, from: ChatId) {
        self.state().moved.remove(&from);
        if !matches!(timeout(RECORD_LIMIT, self.store.forget_migration(from)).await, Ok(Ok(()))) {
            tracing::debug!("a group's move that leads nowhere is still in the ledger");
        }
    }

    /// Whose matter the answer to what was sent at `sent` is, and what follows from it.
    fn judge(&self, alert: &DueAlert, chat: ChatId, send_result: SendResult, sent: Instant) -> Ending {
        use ending::AttemptResult as Seen;
        let (id, now) = (alert.event_id, Instant::now());
        let mut state = self.state();
        let before = state.breaker.fault();
        let failed = |state: &mut State, fault, wait| match state.breaker.failed(id, fault, wait, now) {
            FaultScope::Channel => Seen::Channel(fault),
            FaultScope::Message { times } => Seen::MessageAtFault { fault, times },
        };
        let seen = match send_result {
            SendResult::TelegramDown(fault) => failed(&mut state, fault, self.sending.probe_interval),
            SendResult::TooMany { retry_after } => {
                let scope = state.rate_limits.limited(chat, retry_after, now);
                if scope == RateLimitScope::Bot || before == Some(TelegramFault::TooMany) {
                    failed(&mut state, TelegramFault::TooMany, retry_after)
                } else {
                    Seen::ChatIsBusy(retry_after)
                }
            }
            SendResult::Delivered { message_id } => {
                state.rate_limits.accepted(sent);
                Seen::Delivered { message_id }
            }
            SendResult::ChatUnreachable(reason) => Seen::ChatUnreachable(reason),
            SendResult::Migrated(to) => Seen::Moved { from: chat, to },
            SendResult::MarkupRefused => Seen::MarkupRefused,
            SendResult::Refused => Seen::Refused,
        };
        if !matches!(seen, Seen::Channel(_) | Seen::MessageAtFault { .. }) {
            state.breaker.answered(id);
        }
        let ending = decide(seen, alert.history, self.sending.schedule, rand::random());
        if matches!(ending.next, Next::Delivered { .. } | Next::GivenUp) {
            state.breaker.forget(id);
        }
        let (after, breaker_state) = (state.breaker.fault(), state.breaker.state());
        drop(state);
        self.metrics.breaker(breaker_state);
        self.health.telegram(before, after);
        ending
    }

    /// Counts and logs an ending. Neither the chat nor the text appears.
    fn note(&self, alert: &DueAlert, ending: &Ending) {
        self.metrics.attempted(ending.outcome, 1);
        match &ending.next {
            Next::Delivered { .. } => {
                if let Some(reading) = &alert.alert.reading {
                    let latency = (self.clock.now() - reading.observed_at).to_std().unwrap_or_default();
                    self.metrics.delivered_after(latency);
                }
                tracing::info!("sent the alert");
            }
            Next::GivenUp => {
                self.metrics.ended_unsent(Unsent::GivenUp, 1);
                tracing::warn!("gave the alert up after its last failure");
            }
            Next::Kept { reason, wait } => {
                tracing::info!(
                    "the chat cannot be reached ({}); the alert is kept, next try in {wait:?}",
                    reason.as_str()
                );
            }
            Next::Unchanged if ending.outcome == Outcome::NotMade => {
                tracing::warn!("the call was not made: the process stood still after the attempt was written");
            }
            Next::Unchanged => tracing::debug!("Telegram is out of order: {}", ending.outcome.as_str()),
            Next::After(wait) | Next::Failed(wait) | Next::Repeat(wait) => {
                tracing::info!("the alert is tried again in {wait:?}: {}", ending.outcome.as_str());
            }
            Next::AsPlainText => tracing::warn!("Telegram did not understand our markup; sending plain text"),
            Next::Moved { .. } => tracing::info!("the group became a supergroup; sending to its new id"),
        }
    }

    /// Writes the outcome down, however long the ledger is away: it is the only proof that a person
    /// has the message.
    async fn record(&self, attempt: AttemptId, link: ChatLink, ending: &Ending) {
        let stopping = self.tasks.stopping();
        let mut give_up_at = None;
        loop {
            match timeout(RECORD_LIMIT, self.store.end(attempt, link, ending, self.sending.contact_interval)).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {
                    tracing::warn!("the outcome came too late: the attempt had been marked unknown");
                    return;
                }
                Ok(Err(error)) if !is_unavailable(&error) => {
                    // To go on would send the same message again and again.
                    let error = anyhow::Error::new(error).context("record the outcome of an attempt");
                    self.tasks.spawn("recording", async { Err(error) });
                    return;
                }
                Ok(Err(_)) | Err(_) => {}
            }
            if stopping.is_cancelled() {
                let until = *give_up_at.get_or_insert_with(|| Instant::now() + RECORD_GRACE);
                if Instant::now() > until {
                    tracing::warn!("the ledger is away: the outcome of an attempt is lost, and it will be repeated");
                    return;
                }
            }
            tokio::time::sleep(RECORD_REST).await;
        }
    }
}

/// The airport's name, where the code is one we know.
fn airport_name(code: &str) -> Option<&'static str> {
    airports::by_icao(code.parse().ok()?).map(|airport| airport.name)
}
