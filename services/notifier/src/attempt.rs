//! One attempt: the call, what its answer means, and the outcome in the ledger. What attempts know
//! about Telegram (its limits, whether it works, which groups moved) outlives a term of leading.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use shell::{
    clock::Clock,
    fault,
    lease::{HoldError, Term},
    postgres::is_unavailable,
    tasks::Tasks,
};
use tokio::{sync::Notify, time::timeout};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    config::Sending,
    core::{
        channel::{Blame, Channel, Gate},
        ending::{self, Ending, Next, Outcome, Unsent, decide},
        message::{Markup, compose},
        pacing::{ChatId, LONGEST_SPAN, Pacing, Wait},
        throttle::{Scope, Throttle},
        verdict::{ChannelFault, Verdict},
    },
    directory::Directory,
    health::Health,
    metrics::Metrics,
    store::{AttemptId, CutOff, DueAlert, Store},
    telegram::Telegram,
};

/// Attempts under way at most.
pub const CONCURRENCY: usize = 32;
/// How long one try to write an outcome may take, and how long to wait before the next.
const RECORD_LIMIT: Duration = Duration::from_secs(3);
const RECORD_REST: Duration = Duration::from_millis(250);
/// How long a stop waits for outcomes that the ledger does not take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// A call has ended and its outcome should be in the ledger this long after the call's limit.
const GRACE: Duration = Duration::from_secs(2);
/// A group moves once. A chain of moves is followed this far.
const MOVES: usize = 5;

/// What it takes to make attempts.
pub struct Attempts {
    /// The ledger.
    pub store: Store,
    /// Where people can be reached.
    pub directory: Directory,
    /// What is counted.
    pub metrics: Metrics,
    /// How messages are sent.
    pub sending: Sending,
    /// Where attempts run.
    pub tasks: Tasks,
    telegram: Telegram,
    call_limit: Duration,
    clock: Clock,
    health: Arc<Health>,
    news: Arc<Notify>,
    state: Mutex<State>,
}

/// What attempts are made with.
pub struct Tools {
    /// The ledger.
    pub store: Store,
    /// Where people can be reached.
    pub directory: Directory,
    /// What is counted.
    pub metrics: Metrics,
    /// How messages are sent.
    pub sending: Sending,
    /// Where attempts run.
    pub tasks: Tasks,
    /// Telegram.
    pub telegram: Telegram,
    /// How long a call may take.
    pub call_limit: Duration,
    /// The clock by which readings are old.
    pub clock: Clock,
    /// What `/readyz` says about Telegram.
    pub health: Arc<Health>,
    /// Wakes the sender.
    pub news: Arc<Notify>,
}

struct State {
    pacing: Pacing,
    channel: Channel,
    throttle: Throttle,
    /// Attempts whose outcome this process still owes the ledger.
    alive: HashSet<AttemptId>,
    moved: HashMap<ChatId, ChatId>,
}

/// Room for one call to a chat, given back when it is dropped.
pub struct Slot {
    attempts: Arc<Attempts>,
    chat: ChatId,
}

impl Slot {
    /// Which chat it is for.
    #[must_use]
    pub fn chat(&self) -> ChatId {
        self.chat
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.attempts.state().pacing.end(self.chat, Instant::now());
    }
}

/// An attempt that is written in the ledger and about to be made.
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// Room for it.
    pub slot: Slot,
    /// What is sent.
    pub alert: DueAlert,
    /// The term it belongs to.
    pub term: Term,
}

impl Attempts {
    /// No attempt made yet.
    #[must_use]
    pub fn new(tools: Tools) -> Arc<Self> {
        let state = State {
            pacing: Pacing::new(tools.sending.per_second, tools.sending.group_per_minute),
            channel: Channel::default(),
            throttle: Throttle::default(),
            alive: HashSet::new(),
            moved: HashMap::new(),
        };
        Arc::new(Self {
            store: tools.store,
            directory: tools.directory,
            metrics: tools.metrics,
            sending: tools.sending,
            tasks: tools.tasks,
            telegram: tools.telegram,
            call_limit: tools.call_limit,
            clock: tools.clock,
            health: tools.health,
            news: tools.news,
            state: Mutex::new(state),
        })
    }

    /// Waits for news: a new alert, or an attempt that ended.
    pub async fn woken(&self) {
        self.news.notified().await;
    }

    /// Waits until no attempt is under way.
    pub async fn finished(&self) {
        while !self.state().alive.is_empty() {
            // Whoever ends tells the news; another waiter may have taken it.
            drop(timeout(RECORD_REST, self.news.notified()).await);
        }
    }

    /// What the channel allows.
    pub fn gate(&self, now: Instant) -> Gate {
        self.state().channel.gate(now)
    }

    /// How often `message` has failed since the channel closed.
    pub fn channel_failures(&self, message: Uuid) -> u32 {
        self.state().channel.failures(message)
    }

    /// How many attempts may begin now.
    ///
    /// # Errors
    /// When to ask again, if none may; `None` when a call ends.
    pub fn room(&self, now: Instant) -> Result<usize, Option<Instant>> {
        let state = self.state();
        let room = CONCURRENCY.saturating_sub(state.alive.len());
        Ok(state.pacing.allowance(now)?.map_or(room, |allowance| allowance.min(room)))
    }

    /// Room for one call to `chat`, if the limits allow one now.
    ///
    /// # Errors
    /// When and why to wait.
    pub fn reserve(self: &Arc<Self>, chat: ChatId) -> Result<Slot, Wait> {
        self.state().pacing.begin(chat, Instant::now())?;
        Ok(Slot { attempts: self.clone(), chat })
    }

    /// The id that `chat` has now.
    pub fn current_id(&self, chat: ChatId) -> ChatId {
        let state = self.state();
        (0..MOVES).try_fold(chat, |id, _| state.moved.get(&id).copied().ok_or(id)).unwrap_or_else(|id| id)
    }

    /// Learns what whoever sent before knew: which groups moved, what the limits have to count, and
    /// how long the bot is to be silent.
    ///
    /// # Errors
    /// When the ledger cannot answer.
    pub async fn take_over(&self) -> sqlx::Result<()> {
        let moved = self.store.migrations().await?;
        let calls = self.store.latest_calls(LONGEST_SPAN).await?;
        let silence = self.store.silence().await?;
        let now = Instant::now();
        let mut state = self.state();
        state.moved.extend(moved);
        state.pacing.take_over(calls.into_iter().map(|(chat, age)| (chat, now.checked_sub(age).unwrap_or(now))));
        if let Some(wait) = silence {
            let before = state.channel.fault();
            state.channel.was_silenced(now + wait);
            self.metrics.channel(false);
            self.health.channel(before, state.channel.fault());
        }
        Ok(())
    }

    /// Declares attempts unclear that no process will complete any more.
    ///
    /// # Errors
    /// When a later leader has begun, or the ledger cannot answer.
    pub async fn declare_unclear(&self, term: &Term) -> Result<CutOff, HoldError> {
        let alive: Vec<i64> = self.state().alive.iter().map(|attempt| attempt.0).collect();
        let cut_off = self.store.declare_unclear(term, &alive, self.call_limit + GRACE).await?;
        self.metrics.attempted(Outcome::Unclear, cut_off.unclear);
        Ok(cut_off)
    }

    /// Makes `attempt` in a task of its own.
    pub fn start(self: &Arc<Self>, attempt: Attempt, is_probe: bool) {
        {
            let mut state = self.state();
            state.alive.insert(attempt.id);
            if is_probe {
                state.channel.probe(attempt.alert.event_id);
            }
        }
        let cause = &attempt.alert.cause;
        let span = tracing::info_span!("send alert", alert.id = %attempt.alert.event_id, request_id = cause.request_id);
        // Telegram takes no trace context: the trace ends here.
        drop(cause.enter(&span));
        let this = self.clone();
        self.tasks.spawn_short("an attempt to send", async move { this.make(attempt).await }.instrument(span));
    }

    async fn make(&self, attempt: Attempt) {
        let Attempt { id, slot, alert, term } = attempt;
        let chat = slot.chat;
        fault::point("notifier.attempt-written");
        let markup = if alert.history.plain_text { Markup::None } else { Markup::Html };
        let airport = airport_name(&alert.alert.airport_code);
        let text = compose(&alert.alert, airport, self.clock.now(), markup);
        let sent = Instant::now();
        let verdict = self.telegram.send(chat, &text, markup).await;
        fault::point("notifier.sent-not-recorded");
        drop(slot);
        let asked_to_wait = match verdict {
            Verdict::TooMany { retry_after } => Some(retry_after),
            _ => None,
        };
        let ending = self.judge(&alert, chat, verdict, sent);
        if let Some(wait) = asked_to_wait.filter(|_| ending.next == Next::Unchanged) {
            // Known here in any case; should the ledger not take it, a successor is told by Telegram.
            drop(timeout(RECORD_LIMIT, self.store.remember_silence(wait)).await);
        }
        if let Next::Moved { from, to } = ending.next {
            self.state().moved.insert(from, to);
        }
        self.note(&alert, &ending);
        self.record(id, &ending).await;
        if ending.next == Next::Undeliverable {
            self.settle_others(&term, &alert).await;
        }
        self.state().alive.remove(&id);
        self.news.notify_one();
    }

    /// Whose matter the answer to what was sent at `sent` is, and what follows from it.
    fn judge(&self, alert: &DueAlert, chat: ChatId, verdict: Verdict, sent: Instant) -> Ending {
        use ending::Attempt as Seen;
        let (id, now) = (alert.event_id, Instant::now());
        let mut state = self.state();
        let before = state.channel.fault();
        let failed = |state: &mut State, fault, wait| match state.channel.failed(id, fault, wait, now) {
            Blame::Channel => Seen::Channel(fault),
            Blame::Message { times } => Seen::Blamed { fault, times },
        };
        let seen = match verdict {
            Verdict::ChannelDown(fault) => failed(&mut state, fault, self.sending.probe_interval),
            Verdict::TooMany { retry_after } => {
                let scope = state.throttle.told(chat, retry_after, now);
                if scope == Scope::Bot || before == Some(ChannelFault::TooMany) {
                    failed(&mut state, ChannelFault::TooMany, retry_after)
                } else {
                    Seen::ChatIsBusy(retry_after)
                }
            }
            Verdict::Delivered { message_id } => {
                state.throttle.accepted(sent);
                Seen::Delivered { message_id }
            }
            Verdict::ChatGone => Seen::ChatGone,
            Verdict::Migrated(to) => Seen::Moved { from: chat, to },
            Verdict::MarkupRefused => Seen::MarkupRefused,
            Verdict::Refused => Seen::Refused,
        };
        if !matches!(seen, Seen::Channel(_) | Seen::Blamed { .. }) {
            state.channel.answered(id);
        }
        let ending = decide(seen, alert.history, self.sending.schedule, rand::random());
        if matches!(ending.next, Next::Delivered { .. } | Next::GivenUp | Next::Undeliverable) {
            state.channel.forget(id);
        }
        let after = state.channel.fault();
        drop(state);
        self.metrics.channel(after.is_none());
        self.health.channel(before, after);
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
            Next::Undeliverable => tracing::info!("nobody reads the chat any more"),
            Next::Unchanged => tracing::debug!("the channel is out of order: {}", ending.outcome.as_str()),
            Next::After(wait) | Next::Failed(wait) => {
                tracing::info!("the alert is tried again in {wait:?}: {}", ending.outcome.as_str());
            }
            Next::AsPlainText => tracing::warn!("Telegram did not understand our markup; sending plain text"),
            Next::Moved { .. } => tracing::info!("the group became a supergroup; sending to its new id"),
        }
    }

    /// Writes the outcome down, however long the ledger is away: it is the only proof that a person
    /// has the message.
    async fn record(&self, attempt: AttemptId, ending: &Ending) {
        let stopping = self.tasks.stopping();
        let mut last_words_until = None;
        loop {
            match timeout(RECORD_LIMIT, self.store.end(attempt, ending)).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {
                    tracing::warn!("the outcome came too late: the attempt had been declared unclear");
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
                let until = *last_words_until.get_or_insert_with(|| Instant::now() + LAST_WORDS);
                if Instant::now() > until {
                    tracing::warn!("the ledger is away: the outcome of an attempt is lost, and it will be repeated");
                    return;
                }
            }
            tokio::time::sleep(RECORD_REST).await;
        }
    }

    /// Whatever else waits for the same registration has nobody to read it either.
    async fn settle_others(&self, term: &Term, alert: &DueAlert) {
        let whose = (alert.email.as_str(), alert.user_id);
        let settled = self.store.settle_unsent(term, whose, Duration::ZERO, Unsent::Undeliverable).await;
        // If that fails, each of them finds out for itself.
        self.metrics.ended_unsent(Unsent::Undeliverable, 1 + settled.unwrap_or_default());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The airport's name, where the code is one we know.
fn airport_name(code: &str) -> Option<&'static str> {
    airports::by_icao(code.parse().ok()?).map(|airport| airport.name)
}
