//! One attempt: the call, what its answer means, and the outcome in the ledger. What attempts know
//! about Telegram (its limits, whether it works, which groups moved) outlives a term of leading.

mod call;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use pg::lease::{HoldError, Term};
use runtime::{clock::Clock, tasks::Tasks};
use tokio::{sync::Notify, time::timeout};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    config::Sending,
    core::{
        channel::{Channel, Gate},
        ending::Outcome,
        pacing::{ChatId, LONGEST_SPAN, Pacing, Wait},
        reach::Link,
        throttle::Throttle,
        verdict::LONGEST_WAIT,
    },
    directory::Directory,
    health::Health,
    metrics::Metrics,
    store::{AttemptId, CutOff, DueAlert, Store},
    telegram::Telegram,
};

/// Attempts under way at most.
pub const CONCURRENCY: usize = 32;
/// How often it is looked whether all attempts have ended.
const END_INTERVAL: Duration = Duration::from_millis(250);
/// A call begins at most this long after its attempt was written, or it is not made. What is older than
/// the call's limit and twice this has ended, and its outcome should be in the ledger.
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

/// When an attempt was written, by both clocks: one of them stands still while the machine sleeps, and the
/// other may be set.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    by_time_passed: Instant,
    by_clock: SystemTime,
}

impl Written {
    /// Now, or a little later.
    #[must_use]
    pub fn now() -> Self {
        Self { by_time_passed: Instant::now(), by_clock: SystemTime::now() }
    }

    /// Whether somebody else may have declared the attempt unclear, and made another, before a call that
    /// begins now could end.
    fn is_too_old(self) -> bool {
        let by_clock = SystemTime::now().duration_since(self.by_clock).unwrap_or_default();
        self.by_time_passed.elapsed().max(by_clock) > GRACE
    }
}

/// An attempt that is written in the ledger and about to be made.
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// From before it was written.
    pub written: Written,
    /// The chat as the person named it.
    pub link: Link,
    /// Room for it.
    pub slot: Slot,
    /// What is sent.
    pub alert: DueAlert,
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
            drop(timeout(END_INTERVAL, self.news.notified()).await);
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
            state.channel.was_silenced(now + wait.min(LONGEST_WAIT));
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
        let repeats = self.sending.schedule.repeat_waits();
        let cut_off = self.store.declare_unclear(term, &alive, self.call_limit + 2 * GRACE, &repeats).await?;
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
