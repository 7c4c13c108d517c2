//! The leader's work: finds what is due, asks where it goes, keeps Telegram's limits, and starts
//! the attempts.
//!
//! ```text
//!            ┌──────────────── wake: news, an ended attempt ───────────────┐
//!            ▼                                                             │
//! round ──▶ due ──▶ contact ──▶ limits ──▶ attempt written ──▶ attempt ────┘
//! ```
//! A round never waits for Telegram; an attempt is a task of its own, which outlives the term it
//! began in, so that its answer reaches the ledger even when the lease was lost meanwhile.

mod plan;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use pg::{
    is_unavailable,
    lease::{FenceError, LeaseTerm},
};
use runtime::clock_watch::{ClockWatch, Sample};
use tokio::time::timeout;

use crate::{
    core::{rate_limiter::Wait, reach::ChatLink, telegram_breaker::SendPermit},
    delivery::{CONCURRENCY, Deliveries, DeliveryAttempt, Written},
    metrics::Metrics,
    store::DueAlert,
};

/// How long to leave a chat alone whose earlier message is still on its way.
const CHAT_REST: Duration = Duration::from_millis(250);
/// How long to leave user-manager alone when it does not answer.
const USER_MANAGER_REST: Duration = Duration::from_secs(1);
/// How long to leave the ledger alone when it does not answer.
const LEDGER_REST: Duration = Duration::from_millis(500);
/// How long a round may take before the ledger counts as away.
const ROUND_LIMIT: Duration = Duration::from_secs(15);
/// The ledger is looked at this often even without a notification that it has news: one can be lost with a connection.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How long a new leader waits before it marks attempts unknown: a predecessor that comes back
/// from the same outage may be writing their outcomes.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);
/// How often it is tried to move the ledger's times after the clock was set. More would hold up all
/// sending for the sake of waits.
const MOVES_OF_TIME: u32 = 3;

/// One term of leading.
pub struct Sender {
    deliveries: Arc<Deliveries>,
    term: LeaseTerm,
    has_taken_over: bool,
    /// People who are left alone for a moment, and until when.
    resting: HashMap<String, Instant>,
    /// When to look for attempts that were cut off.
    recover_at: Option<Instant>,
    /// The database's clock, seen from here.
    clock: ClockWatch,
    /// The newest alert that was there before the database's clock was last compared.
    newest: i64,
    /// How the ledger's times are still to be moved.
    step: Option<ClockStep>,
}

/// The database's clock was set.
#[derive(Clone, Copy)]
struct ClockStep {
    seconds: f64,
    /// The newest alert that was certainly there before.
    known: i64,
    /// How often it may still be tried to move the ledger's times.
    tries: u32,
}

/// When the next round begins, unless something wakes the sender before.
enum Pause {
    None,
    Until(Instant),
    UntilWoken,
}

/// Why a round ended early.
enum Stop {
    Deposed,
    Away(String),
    Broken(anyhow::Error),
}

/// Shows in the metrics who leads.
struct Leading(Metrics);

impl Leading {
    fn new(metrics: Metrics) -> Self {
        metrics.leading(true);
        Self(metrics)
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.leading(false);
    }
}

impl From<FenceError> for Stop {
    fn from(error: FenceError) -> Self {
        match error {
            FenceError::Deposed => Self::Deposed,
            FenceError::Database(error) => error.into(),
        }
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        if is_unavailable(&error) {
            return Self::Away(error.to_string());
        }
        Self::Broken(anyhow::Error::new(error).context("use the ledger"))
    }
}

impl Sender {
    /// The work of `term`.
    #[must_use]
    pub fn new(deliveries: Arc<Deliveries>, term: LeaseTerm) -> Self {
        let recover_at = Some(Instant::now() + ORPHAN_GRACE);
        let (clock, newest, step) = (ClockWatch::default(), 0, None);
        Self { deliveries, term, has_taken_over: false, resting: HashMap::new(), recover_at, clock, newest, step }
    }

    /// Sends until the service stops or another process leads; then waits for what is under way.
    ///
    /// # Errors
    /// When the ledger refuses what we ask of it, which is a fault of ours.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let deliveries = self.deliveries.clone();
        let _leading = Leading::new(deliveries.metrics.clone());
        let stopping = deliveries.tasks.stopping().clone();
        while !stopping.is_cancelled() {
            let round = timeout(ROUND_LIMIT, self.round()).await;
            let until = match round.unwrap_or_else(|_| Err(Stop::Away("it does not answer".to_owned()))) {
                Ok(Pause::None) => continue,
                Ok(Pause::Until(until)) => until,
                Ok(Pause::UntilWoken) => Instant::now() + LONGEST_SLEEP,
                Err(Stop::Deposed) => return Ok(()),
                Err(Stop::Broken(error)) => return Err(error),
                Err(Stop::Away(reason)) => {
                    tracing::warn!("the ledger is away: {reason}");
                    // What the round left behind, if it was cut off between writing and starting.
                    self.recover_at = Some(Instant::now() + ORPHAN_GRACE);
                    Instant::now() + LEDGER_REST
                }
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = deliveries.woken() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
        deliveries.finished().await;
        Ok(())
    }

    async fn round(&mut self) -> Result<Pause, Stop> {
        self.recover_orphans().await?;
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        let probing = match self.deliveries.permit(now) {
            SendPermit::Any => false,
            SendPermit::Probe => true,
            SendPermit::AwaitProbe => return Ok(Pause::UntilWoken),
            SendPermit::NotBefore(until) => return Ok(Pause::Until(until)),
        };
        let room = match self.deliveries.room(now) {
            Ok(0) | Err(None) => return Ok(Pause::UntilWoken),
            Err(Some(until)) => return Ok(Pause::Until(until)),
            Ok(room) => room,
        };
        // Asked in this order, nothing can become due unseen between the two questions.
        let (shown, next_due, newest) = self.deliveries.store.next_due().await?;
        if self.clock_was_set(shown) {
            return Ok(Pause::None);
        }
        self.newest = newest;
        let except: Vec<String> = self.resting.keys().cloned().collect();
        let wanted = if probing { CONCURRENCY } else { room };
        let found = self.deliveries.store.due(&except, wanted).await?;
        // Ages that were measured by a clock which was set in between decide nothing.
        if found.clock.is_some_and(|shown| self.clock_was_set(shown)) {
            return Ok(Pause::None);
        }
        let may_be_more = found.queues.len() == wanted;
        let (mut due, mut empty) = (Vec::new(), Vec::new());
        for queue in found.queues {
            match queue.head {
                Some(head) => due.push(head),
                None => empty.push(queue.email),
            }
        }
        if !empty.is_empty() {
            self.deliveries.store.retire(&self.term, &empty).await?;
        }
        if due.is_empty() {
            return Ok(if may_be_more { Pause::None } else { self.sleep(next_due) });
        }
        if probing {
            // The probe is the one that failed least, so that one message cannot keep the breaker open.
            due.sort_by_key(|alert| self.deliveries.breaker_failures(alert.event_id));
            due.truncate(1);
        }
        let Some(plan) = self.plan(due).await? else { return Ok(Pause::Until(Instant::now() + USER_MANAGER_REST)) };
        let again = may_be_more || probing || plan.changed;
        self.start(plan.send, probing).await?;
        Ok(if again { Pause::None } else { self.sleep(next_due) })
    }

    /// Learns what the leader before knew, and marks attempts unknown that no replica will complete any more.
    async fn recover_orphans(&mut self) -> Result<(), Stop> {
        if !self.has_taken_over {
            self.deliveries.store.mend(&self.term).await?;
            self.deliveries.take_over().await?;
            self.has_taken_over = true;
        }
        if let Some(step) = self.step.take() {
            self.step = step.tries.checked_sub(1).map(|tries| ClockStep { tries, ..step });
            self.deliveries.store.move_times(&self.term, step.seconds, step.known).await?;
            self.step = None;
        }
        if self.recover_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let cut_off = self.deliveries.mark_unknown(&self.term).await?;
        if cut_off.unclear > 0 {
            tracing::warn!("{} alerts were cut off and may have been delivered; they are sent again", cut_off.unclear);
        }
        self.recover_at = cut_off.next_in.map(|wait| Instant::now() + wait);
        Ok(())
    }

    /// Compares the database's clock with the time that passed. Answers whether it was set; then the next
    /// round moves the ledger's times along.
    fn clock_was_set(&mut self, shown: Sample) -> bool {
        let Some(seconds) = self.clock.observe(shown) else { return false };
        tracing::warn!("the database's clock was set by {seconds:.0} s; what waits is moved along");
        let step = ClockStep { seconds, known: self.newest, tries: MOVES_OF_TIME };
        self.step = Some(self.step.map_or(step, |owed| ClockStep {
            seconds: owed.seconds + seconds,
            known: owed.known,
            ..step
        }));
        true
    }

    fn sleep(&self, next_due: Option<Duration>) -> Pause {
        let due = next_due.map(|wait| Instant::now() + wait.min(LONGEST_SLEEP));
        let rested = self.resting.values().min().copied();
        let times = [due, rested, self.recover_at];
        times.into_iter().flatten().min().map_or(Pause::UntilWoken, Pause::Until)
    }

    /// Starts what the limits of each chat allow.
    async fn start(&mut self, wanted: Vec<(ChatLink, DueAlert)>, is_probe: bool) -> Result<(), Stop> {
        let mut chosen = HashMap::new();
        for (link, alert) in wanted {
            match self.deliveries.reserve(self.deliveries.current_id(link.chat)) {
                Ok(slot) => {
                    chosen.insert(alert.event_id, (slot, link, alert));
                }
                Err(Wait::ThisChat(until)) => {
                    self.resting.insert(alert.email, until.unwrap_or_else(|| Instant::now() + CHAT_REST));
                }
                Err(Wait::AllChats(_)) => break,
            }
        }
        let ids: Vec<_> = chosen.iter().map(|(id, (slot, ..))| (*id, slot.chat())).collect();
        // The breaker may have opened while this round asked where to send.
        let has_opened = !is_probe && self.deliveries.permit(Instant::now()) != SendPermit::Any;
        if ids.is_empty() || has_opened {
            return Ok(());
        }
        let written = Written::now();
        for (event_id, id) in self.deliveries.store.begin(&self.term, &ids).await? {
            if let Some((slot, link, alert)) = chosen.remove(&event_id) {
                self.deliveries.start(DeliveryAttempt { id, written, link, slot, alert }, is_probe);
            }
        }
        Ok(())
    }
}
