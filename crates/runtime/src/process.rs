//! A process from its first line to its exit code.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use prometheus::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::{ConfigError, RuntimeConfig},
    metrics,
    readiness::{Criticality, HealthPart, Readiness, Report},
    tasks::Tasks,
    telemetry::Telemetry,
};

/// Exit code of a process whose settings or arguments cannot be used.
pub const EXIT_USAGE: u8 = 2;

/// How many files a process may have open, where the system lets it.
const FILES: u64 = 65_536;

/// Exit code of a process that was stopped by a second signal before it had finished.
pub const EXIT_FORCED: i32 = 130;

/// Two signals so close together are one wish: a terminal or `timeout` sends one to every process of a group, and our
/// parent may pass its own on.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// What is done before a process ends by a second signal.
type ForcedExitHooks = Arc<Mutex<Vec<Box<dyn Fn() + Send>>>>;

/// What a service is handed at its start. Clones share everything.
#[derive(Clone)]
pub struct ServiceRuntime {
    /// The service's name, as it stands in metrics and logs.
    pub service: &'static str,
    /// Where the service registers its metrics.
    pub registry: Registry,
    /// Where the service says what it depends on.
    pub readiness: Readiness,
    /// Where the service's tasks live.
    pub tasks: Tasks,
    /// The time.
    pub clock: Clock,
    /// How long servers of HTTP go on answering once the service stops, so that callers move to another replica.
    pub lame_duck: Duration,
}

impl ServiceRuntime {
    /// A runtime that stops with `stopping`, without a lame duck.
    #[must_use]
    pub fn new(service: &'static str, stopping: CancellationToken, clock: Clock) -> Self {
        let registry = Registry::new();
        if let Err(error) = metrics::register_build_info(&registry, service) {
            tracing::error!("register build_info: {error}");
        }
        let (readiness, tasks) = (Readiness::default(), Tasks::new(stopping));
        Self { service, registry, readiness, tasks, clock, lame_duck: Duration::ZERO }
    }

    /// How the service is. One that stops is not ready, however its parts are.
    pub async fn report(&self) -> Report {
        let mut report = self.readiness.report().await;
        report.ready &= !self.tasks.stopping().is_cancelled();
        report
    }
}

/// A running process: its logs, its signals, its admin port and the services in it.
pub struct Process {
    telemetry: Telemetry,
    stopping: CancellationToken,
    lame_duck: Duration,
    forced_exit_hooks: ForcedExitHooks,
    runtimes: Vec<ServiceRuntime>,
    starting: Mutex<Vec<HealthPart>>,
}

impl Process {
    /// Starts logs, traces and the handling of SIGTERM and SIGINT, and chooses the one TLS
    /// implementation ([`choose_tls`]).
    ///
    /// # Errors
    /// When logging was started before, or signals cannot be caught.
    pub fn start(config: &RuntimeConfig) -> anyhow::Result<Self> {
        let telemetry = Telemetry::start(config)?;
        choose_tls();
        raise_file_limit();
        let stopping = CancellationToken::new();
        let forced_exit_hooks = ForcedExitHooks::default();
        watch_signals(stopping.clone(), forced_exit_hooks.clone())?;
        Ok(Self {
            telemetry,
            stopping,
            lame_duck: config.lame_duck,
            forced_exit_hooks,
            runtimes: Vec::new(),
            starting: Mutex::default(),
        })
    }

    /// Does `hook` should a second signal cut the stop short. It may not wait for anything.
    pub fn on_forced_exit(&self, hook: impl Fn() + Send + 'static) {
        self.forced_exit_hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// A runtime for one service of this process. `/readyz` says that it is starting until
    /// [`Process::started`], or [`Process::run`].
    pub fn runtime(&mut self, service: &'static str, clock: Clock) -> ServiceRuntime {
        let mut runtime = ServiceRuntime::new(service, self.stopping.clone(), clock);
        runtime.lame_duck = self.lame_duck;
        let part = runtime.readiness.part("start", Criticality::Required, "is not complete yet");
        self.starting.lock().unwrap_or_else(PoisonError::into_inner).push(part);
        self.runtimes.push(runtime.clone());
        runtime
    }

    /// Cancelled when the process is to end.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// The runtimes made so far.
    #[must_use]
    pub fn runtimes(&self) -> &[ServiceRuntime] {
        &self.runtimes
    }

    /// Every service of this process answers.
    pub fn started(&self) {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits for a signal or for the first part that dies, then until everything has ended.
    ///
    /// # Errors
    /// The first failure of a task.
    pub async fn run(self) -> anyhow::Result<()> {
        self.started();
        let ended = futures::future::join_all(self.runtimes.iter().map(|runtime| runtime.tasks.join())).await;
        self.telemetry.close();
        ended.into_iter().collect()
    }
}

/// Chooses ring as the one TLS implementation of this process, for all its clients and servers.
pub fn choose_tls() {
    // A second installation in the same process is refused, which changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Every connection is a file. Systems hand out few of them for the sake of old programs, and let a
/// process ask for more.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |most| most.min(FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!("raise the limit of open files: {error}");
        }
    }
}

/// The process was asked to stop while it was still starting. This is a clean end.
#[derive(Clone, Copy, Debug)]
pub struct StoppedEarly;

impl std::fmt::Display for StoppedEarly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped before the start was complete")
    }
}

impl std::error::Error for StoppedEarly {}

/// The exit code of a process: 0 after a clean end, [`EXIT_USAGE`] for settings that cannot be used,
/// 1 for everything else. Prints the failure with its causes.
#[expect(clippy::print_stderr, reason = "the last words of a process go where its user looks")]
#[must_use]
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<StoppedEarly>() => ExitCode::SUCCESS,
        Err(error) if error.is::<ConfigError>() => {
            eprintln!("{error}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether our parent wants SIGHUP ignored, as `nohup` does: its bit in the mask that Linux shows. Where the mask
/// cannot be read, the signal is left as it is.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

async fn hung_up(hangup: Option<&mut Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// The first SIGTERM, SIGINT or SIGHUP (a terminal that is closed) asks everything to finish; a
/// later one ends the process at once, after `forced_exit_hooks`.
#[expect(clippy::disallowed_methods, clippy::exit, reason = "the process owns this task and its own end")]
fn watch_signals(stopping: CancellationToken, forced_exit_hooks: ForcedExitHooks) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catch SIGINT")?;
    let hangup = (!ignores_hangup()).then(|| signal(SignalKind::hangup()));
    let mut hangup = hangup.transpose().context("catch SIGHUP")?;
    tokio::spawn(async move {
        let mut asked_at: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = hung_up(hangup.as_mut()) => {}
            }
            match asked_at {
                Some(at) if at.elapsed() < SAME_REQUEST => continue,
                Some(_) => {
                    forced_exit_hooks.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|hook| hook());
                    std::process::exit(EXIT_FORCED);
                }
                None => asked_at = Some(Instant::now()),
            }
            tracing::info!("stopping: finishing what is in flight");
            stopping.cancel();
        }
    });
    Ok(())
}
