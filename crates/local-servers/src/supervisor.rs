//! Watching one server: started again when it dies, ended when we end.

use std::{sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::{
    process::Child,
    sync::{oneshot, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};

use crate::{
    core::deaths::Deaths,
    error::Error,
    launch::{Plan, launch},
    leftovers,
};

/// How often a server's log is looked at for its size.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// How a server is.
#[derive(Clone, Debug)]
pub enum State {
    /// It answers; its process.
    Running(u32),
    /// It died and is being started again.
    Restarting,
    /// It was stopped by us.
    Stopped,
    /// It died too often and stays dead.
    Failed(Arc<Error>),
}

/// A look at a server, for whoever must know how it is. Clones see the same.
#[derive(Clone, Debug)]
pub struct Watch(watch::Receiver<State>);

impl Watch {
    /// How the server is now.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.borrow().clone()
    }

    /// Its process; `None` unless it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match *self.0.borrow() {
            State::Running(pid) => Some(pid),
            _ => None,
        }
    }

    /// Returns, with the last lines of its log, when the server died too often. Of a server that is
    /// stopped this never returns.
    pub async fn failed(&self) -> Arc<Error> {
        let mut receiver = self.0.clone();
        let failed = receiver.wait_for(|state| matches!(state, State::Failed(_))).await;
        let failed = failed.ok().and_then(|state| match &*state {
            State::Failed(error) => Some(error.clone()),
            _ => None,
        });
        match failed {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Waits until the server runs as another process than `pid`; the new one. `None` when it never
    /// will.
    pub async fn restarted_from(&self, pid: u32) -> Option<u32> {
        let mut receiver = self.0.clone();
        let ended = |state: &State| match state {
            State::Running(now) => *now != pid,
            State::Failed(_) | State::Stopped => true,
            State::Restarting => false,
        };
        receiver.wait_for(ended).await.ok()?;
        self.pid()
    }
}

/// How to end a server.
#[derive(Debug)]
pub(crate) enum End {
    /// In good order.
    Stop,
    /// As a power cut would.
    Kill,
}

/// A server that runs and is watched. Dropping it kills the server.
#[derive(Debug)]
pub(crate) struct Supervised {
    watch: Watch,
    end: oneshot::Sender<End>,
    task: JoinSet<()>,
}

impl Supervised {
    /// Starts the server; from then on it is started again when it dies.
    pub(crate) async fn start(plan: Plan) -> Result<Self, Error> {
        let child = launch(&plan).await?;
        let (state, seen) = watch::channel(state_of(&child));
        let (end, ending) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let last = supervise(&plan, child, &state, ending).await;
            state.send_replace(last);
        });
        Ok(Self { watch: Watch(seen), end, task })
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Ends the server and waits for its end, which is bounded.
    pub(crate) async fn end(mut self, how: End) {
        // Nobody listens when it has failed already.
        self.end.send(how).ok();
        self.task.join_next().await;
    }
}

fn state_of(child: &Child) -> State {
    child.id().map_or(State::Restarting, State::Running)
}

/// Returns how it ended.
async fn supervise(
    plan: &Plan,
    mut child: Child,
    state: &watch::Sender<State>,
    mut ending: oneshot::Receiver<End>,
) -> State {
    let mut deaths = Deaths::default();
    let mut log_tick = tokio::time::interval(LOG_INTERVAL);
    log_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::warn!("{} died ({status}); starting it again", plan.server);
            }
            how = &mut ending => {
                let Ok(how) = how else { return State::Stopped };
                end(plan, &mut child, how).await;
                return State::Stopped;
            }
            _ = log_tick.tick() => {
                if let Err(error) = plan.log.cut_if_large() {
                    tracing::warn!("keep the log of {} small: {error}", plan.server);
                }
                continue;
            }
        }
        state.send_replace(State::Restarting);
        child = tokio::select! {
            started = start_again(plan, &mut deaths) => match started {
                Ok(child) => child,
                Err(error) => return State::Failed(Arc::new(error)),
            },
            _ = &mut ending => return State::Stopped,
        };
        tracing::info!("{} runs again", plan.server);
        state.send_replace(state_of(&child));
    }
}

/// Starts a server that died, also when it dies at that, until that is too often.
async fn start_again(plan: &Plan, deaths: &mut Deaths) -> Result<Child, Error> {
    loop {
        if let Some(deaths) = deaths.too_many(std::time::Instant::now()) {
            let (log, tail) = (plan.log.path().to_owned(), plan.log.tail());
            return Err(Error::KeepsDying { server: plan.server, deaths, log, tail });
        }
        match launch(plan).await {
            Ok(child) => return Ok(child),
            Err(error) => tracing::warn!("start {} again: {error}", plan.server),
        }
    }
}

async fn end(plan: &Plan, child: &mut Child, how: End) {
    if let End::Stop = how {
        for (signal, patience) in plan.stop {
            if let Some(pid) = child.id() {
                leftovers::send(pid, *signal);
            }
            if tokio::time::timeout(*patience, child.wait()).await.is_ok() {
                return;
            }
            tracing::warn!("{} did not end within {patience:?} of {signal:?}", plan.server);
        }
    }
    if let Some(pid) = child.id() {
        leftovers::send(pid, Signal::KILL);
    }
    if let Err(error) = child.wait().await {
        tracing::warn!("wait for {} to end: {error}", plan.server);
    }
}
