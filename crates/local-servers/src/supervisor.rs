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
    core::restart_limit::RestartLimit,
    disk::free_bytes,
    error::Error,
    launch::{LaunchSpec, launch},
    processes,
};

/// How often a server's log is looked at for its size.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// With less free disk than this, in bytes, a server that died is not started again: PostgreSQL's log
/// of changes grows by 16 MiB at once.
const LEAST_ROOM: u64 = 64 * 1024 * 1024;
const ROOM_INTERVAL: Duration = Duration::from_millis(500);

/// How a server is.
#[derive(Clone, Debug)]
pub enum State {
    /// It answers; its process.
    Running(u32),
    /// It died and is being started again, as soon as there is room on the disk.
    Restarting,
    /// It was stopped by us.
    Stopped,
    /// It died too often and stays dead.
    Failed(Arc<Error>),
}

/// Watches a server. Clones see the same.
#[derive(Clone, Debug)]
pub struct Watch {
    state: watch::Receiver<State>,
    /// What ends the server without waiting for anything.
    quick_end: Signal,
}

impl Watch {
    /// How the server is now.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Its process; `None` unless it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match *self.state.borrow() {
            State::Running(pid) => Some(pid),
            _ => None,
        }
    }

    /// Returns, with the last lines of its log, when the server died too often. Of a server that is
    /// stopped this never returns.
    pub async fn failed(&self) -> Arc<Error> {
        let mut receiver = self.state.clone();
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

    /// Ends the server as quickly as it can be, and does not wait for that: for a process that is about
    /// to end itself, or the server is started again. Nothing that was acknowledged is lost.
    pub fn kill_now(&self) {
        if let Some(pid) = self.pid() {
            processes::send(pid, self.quick_end);
        }
    }

    /// Waits until the server runs as another process than `pid`; the new one. `None` when it never
    /// will.
    pub async fn restarted_from(&self, pid: u32) -> Option<u32> {
        let mut receiver = self.state.clone();
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
    pub(crate) async fn start(spec: LaunchSpec) -> Result<Self, Error> {
        let child = launch(&spec).await?;
        let (state, seen) = watch::channel(state_of(&child));
        let (end, ending) = oneshot::channel();
        let mut task = JoinSet::new();
        let quick_end = spec.quick_end;
        task.spawn(async move {
            let last = supervise(&spec, child, &state, ending).await;
            state.send_replace(last);
        });
        Ok(Self { watch: Watch { state: seen, quick_end }, end, task })
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Ends the server and waits for its end, which is bounded.
    pub(crate) async fn end(mut self, how: End) {
        // The task listens no more when the server has failed already.
        self.end.send(how).ok();
        self.task.join_next().await;
    }
}

fn state_of(child: &Child) -> State {
    child.id().map_or(State::Restarting, State::Running)
}

/// Returns how it ended.
async fn supervise(
    spec: &LaunchSpec,
    mut child: Child,
    state: &watch::Sender<State>,
    mut ending: oneshot::Receiver<End>,
) -> State {
    let mut restart_limit = RestartLimit::default();
    let mut log_tick = tokio::time::interval(LOG_INTERVAL);
    log_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::warn!("{} died ({status}); starting it again", spec.server);
            }
            how = &mut ending => {
                let Ok(how) = how else { return State::Stopped };
                end(spec, &mut child, how).await;
                return State::Stopped;
            }
            _ = log_tick.tick() => {
                if let Err(error) = spec.log.cut_if_large() {
                    tracing::warn!("keep the log of {} small: {error}", spec.server);
                }
                continue;
            }
        }
        state.send_replace(State::Restarting);
        child = tokio::select! {
            started = start_again(spec, &mut restart_limit) => match started {
                Ok(child) => child,
                Err(error) => return State::Failed(Arc::new(error)),
            },
            _ = &mut ending => return State::Stopped,
        };
        tracing::info!("{} runs again", spec.server);
        state.send_replace(state_of(&child));
    }
}

/// Starts a server that died, also when it dies at that, until that is too often. One that died on a
/// full disk waits for room instead.
async fn start_again(spec: &LaunchSpec, restart_limit: &mut RestartLimit) -> Result<Child, Error> {
    loop {
        if !has_room(spec) {
            wait_for_room(spec).await;
        } else if let Some(deaths) = restart_limit.exceeded_by(std::time::Instant::now()) {
            let (log, tail) = (spec.log.path().to_owned(), spec.log.tail());
            return Err(Error::KeepsDying { server: spec.server, deaths, log, tail });
        }
        match launch(spec).await {
            Ok(child) => return Ok(child),
            Err(error) => tracing::warn!("start {} again: {error}", spec.server),
        }
    }
}

async fn wait_for_room(spec: &LaunchSpec) {
    let (least, folder) = (LEAST_ROOM >> 20, spec.folder.display());
    tracing::error!("{} waits for room: less than {least} MiB are free at {folder}: make room there", spec.server);
    while !has_room(spec) {
        tokio::time::sleep(ROOM_INTERVAL).await;
    }
    tracing::info!("there is room again at {folder}");
}

/// Also where the system does not tell: the start itself will show.
fn has_room(spec: &LaunchSpec) -> bool {
    free_bytes(&spec.folder).map_or(true, |free| free >= LEAST_ROOM)
}

async fn end(spec: &LaunchSpec, child: &mut Child, how: End) {
    if let End::Stop = how {
        for (signal, grace) in spec.stop {
            if let Some(pid) = child.id() {
                processes::send(pid, *signal);
                processes::wake_forks(pid).await;
            }
            if tokio::time::timeout(*grace, child.wait()).await.is_ok() {
                return;
            }
            tracing::warn!("{} did not end within {grace:?} of {signal:?}", spec.server);
        }
    }
    if let Some(pid) = child.id() {
        processes::send(pid, Signal::KILL);
    }
    if let Err(error) = child.wait().await {
        tracing::warn!("wait for {} to end: {error}", spec.server);
    }
}
