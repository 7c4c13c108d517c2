//! One attempt: the call, what its answer means, and the outcome in the ledger. What attempts know
//! about Telegram (its limits, whether it works, which groups moved) outlives a term of leading.

mod call;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use pg::lease::{FenceError, LeaseTerm};
use runtime::{clock::Clock, tasks::Tasks};
use tokio::{sync::Notify, time::timeout};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    config::Sending,
    core::{
        ending::Outcome,
        rate_limit_scope::RateLimitTracker,
        rate_limiter::{ChatId, LONGEST_SPAN, RateLimiter, Wait},
        reach::ChatLink,
        send_result::LONGEST_WAIT,
        telegram_breaker::{SendPermit, TelegramBreaker},
    },
    health::Health,
    metrics::Metrics,
    store::{AttemptId, CutOff, DueAlert, Store},
    telegram::Telegram,
    user_client::UserClient,
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
pub struct Deliveries {
    /// The ledger.
    pub store: Store,
    /// Where people can be reached.
    pub user_client: UserClient,
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
pub struct DeliveryDeps {
    /// The ledger.
    pub store: Store,
    /// Where people can be reached.
    pub user_client: UserClient,
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
    rate_limiter: RateLimiter,
    breaker: TelegramBreaker,
    rate_limits: RateLimitTracker,
    /// Attempts whose outcome this process still owes the ledger.
    in_flight: HashSet<AttemptId>,
    moved: HashMap<ChatId, ChatId>,
}

/// Room for one call to a chat, given back when it is dropped.
pub struct Slot {
    deliveries: Arc<Deliveries>,
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
        self.deliveries.state().rate_limiter.end(self.chat, Instant::now());
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

    /// Whether another leader may have marked the attempt unknown, and made another, before a call that begins now
    /// could end.
    fn is_too_old(self) -> bool {
        let by_clock = SystemTime::now().duration_since(self.by_clock).unwrap_or_default();
        self.by_time_passed.elapsed().max(by_clock) > GRACE
    }
}

/// An attempt that is written in the ledger and about to be made.
pub struct DeliveryAttempt {
    /// Its id.
    pub id: AttemptId,
    /// From before it was written.
    pub written: Written,
    /// The chat as the person named it.
    pub link: ChatLink,
    /// Room for it.
    pub slot: Slot,
    /// What is sent.
    pub alert: DueAlert,
}

impl Deliveries {
    /// No attempt made yet.
    #[must_use]
    pub fn new(deps: DeliveryDeps) -> Arc<Self> {
        let state = State {
            rate_limiter: RateLimiter::new(deps.sending.per_second, deps.sending.group_per_minute),
            breaker: TelegramBreaker::default(),
            rate_limits: RateLimitTracker::default(),
            in_flight: HashSet::new(),
            moved: HashMap::new(),
        };
        Arc::new(Self {
            store: deps.store,
            user_client: deps.user_client,
            metrics: deps.metrics,
            sending: deps.sending,
            tasks: deps.tasks,
            telegram: deps.telegram,
            call_limit: deps.call_limit,
            clock: deps.clock,
            health: deps.health,
            news: deps.news,
            state: Mutex::new(state),
        })
    }

    /// Waits for news: a new alert, or an attempt that ended.
    pub async fn woken(&self) {
        self.news.notified().await;
    }

    /// Waits until no attempt is under way.
    pub async fn finished(&self) {
        while !self.state().in_flight.is_empty() {
            // An attempt that ends tells the news; another waiter may have taken it.
            drop(timeout(END_INTERVAL, self.news.notified()).await);
        }
    }

    /// What the breaker allows.
    pub fn permit(&self, now: Instant) -> SendPermit {
        self.state().breaker.permit(now)
    }

    /// How often `message` has failed since the breaker opened.
    pub fn breaker_failures(&self, message: Uuid) -> u32 {
        self.state().breaker.failures(message)
    }

    /// How many attempts may begin now.
    ///
    /// # Errors
    /// When to ask again, if none may; `None` when a call ends.
    pub fn room(&self, now: Instant) -> Result<usize, Option<Instant>> {
        let state = self.state();
        let room = CONCURRENCY.saturating_sub(state.in_flight.len());
        Ok(state.rate_limiter.allowance(now)?.map_or(room, |allowance| allowance.min(room)))
    }

    /// Room for one call to `chat`, if the limits allow one now.
    ///
    /// # Errors
    /// When and why to wait.
    pub fn reserve(self: &Arc<Self>, chat: ChatId) -> Result<Slot, Wait> {
        self.state().rate_limiter.begin(chat, Instant::now())?;
        Ok(Slot { deliveries: self.clone(), chat })
    }

    /// The id that `chat` has now.
    pub fn current_id(&self, chat: ChatId) -> ChatId {
        let state = self.state();
        (0..MOVES).try_fold(chat, |id, _| state.moved.get(&id).copied().ok_or(id)).unwrap_or_else(|id| id)
    }

    /// Learns what the leader before knew: which groups moved, what the limits have to count, and how long the bot is
    /// to be silent.
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
        state.rate_limiter.take_over(calls.into_iter().map(|(chat, age)| (chat, now.checked_sub(age).unwrap_or(now))));
        if let Some(wait) = silence {
            let before = state.breaker.fault();
            state.breaker.was_silenced(now + wait.min(LONGEST_WAIT));
            self.metrics.breaker(state.breaker.state());
            self.health.telegram(before, state.breaker.fault());
        }
        Ok(())
    }

    /// Marks attempts unknown that no process will complete any more.
    ///
    /// # Errors
    /// When a later leader has begun, or the ledger cannot answer.
    pub async fn mark_unknown(&self, term: &LeaseTerm) -> Result<CutOff, FenceError> {
        let in_flight: Vec<i64> = self.state().in_flight.iter().map(|attempt| attempt.0).collect();
        let repeats = self.sending.schedule.repeat_waits();
        let cut_off = self.store.mark_unknown(term, &in_flight, self.call_limit + 2 * GRACE, &repeats).await?;
        self.metrics.attempted(Outcome::Unclear, cut_off.unclear);
        Ok(cut_off)
    }

    /// Makes `attempt` in a task of its own.
    pub fn start(self: &Arc<Self>, attempt: DeliveryAttempt, is_probe: bool) {
        {
            let mut state = self.state();
            state.in_flight.insert(attempt.id);
            if is_probe {
                state.breaker.probe(attempt.alert.event_id);
                self.metrics.breaker(state.breaker.state());
            }
        }
        let context = &attempt.alert.context;
        let span =
            tracing::info_span!("send alert", alert.id = %attempt.alert.event_id, request_id = context.request_id);
        // Telegram takes no trace context: the trace ends here.
        drop(context.enter(&span));
        let this = self.clone();
        self.tasks.spawn_short("an attempt to send", async move { this.make(attempt).await }.instrument(span));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
