//! Starting one server, until it answers.

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    time::Instant,
};

use crate::{
    error::{Error, ErrorContext},
    log::{Log, last_lines},
    run_as::RunAs,
};

/// How long a start is repeated that is refused because of what a killed server left behind.
const REFUSED_LIMIT: Duration = Duration::from_secs(30);
const REFUSED_INTERVAL: Duration = Duration::from_millis(250);
/// How long a server may take to be ready. Long: a recovery after a crash may have much to read.
const READY_LIMIT: Duration = Duration::from_secs(90);
const READY_INTERVAL: Duration = Duration::from_millis(20);

/// What is to be done before each start, such as clearing up.
type Before = Box<dyn Fn() -> Result<(), Error> + Send + Sync>;

/// How a server is launched.
pub(crate) struct LaunchSpec {
    pub(crate) server: &'static str,
    pub(crate) run_as: RunAs,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// The folder it works in.
    pub(crate) folder: PathBuf,
    pub(crate) log: Log,
    pub(crate) ready: Ready,
    /// Words in its log that mean: what a killed one left is still in the way.
    pub(crate) refusals: &'static [&'static str],
    /// The signals that end it, each with the time to obey it.
    pub(crate) stop: &'static [(Signal, Duration)],
    /// The signal that ends it at once.
    pub(crate) quick_end: Signal,
    pub(crate) before: Before,
}

impl LaunchSpec {
    /// Beside the log, for people and scripts; a later start of ours trusts the table of processes.
    fn pid_file(&self) -> PathBuf {
        self.log.path().with_extension("pid")
    }
}

/// How a server tells that it is ready.
pub(crate) enum Ready {
    /// PostgreSQL's `postmaster.pid` says so.
    PidFile(PathBuf),
    /// A line of its log.
    LogLine(&'static str),
}

impl Ready {
    fn is_told(&self, pid: u32, log: &Log, from: u64) -> bool {
        match self {
            Self::PidFile(file) => {
                let text = fs::read_to_string(file).unwrap_or_default();
                let mut lines = text.lines().map(str::trim);
                lines.next().and_then(|line| line.parse().ok()) == Some(pid) && lines.nth(6) == Some("ready")
            }
            Self::LogLine(words) => log.since(from).contains(words),
        }
    }
}

enum Start {
    Ready(Child),
    Ended(ExitStatus, String),
}

/// Starts the server and waits until it is ready.
pub(crate) async fn launch(spec: &LaunchSpec) -> Result<Child, Error> {
    let deadline = Instant::now() + REFUSED_LIMIT;
    loop {
        (spec.before)()?;
        let (status, said) = match start(spec).await? {
            Start::Ready(child) => return Ok(child),
            Start::Ended(status, said) => (status, said),
        };
        let is_refused = spec.refusals.iter().any(|words| said.contains(words));
        if !is_refused || Instant::now() > deadline {
            let (log, tail) = (spec.log.path().to_owned(), last_lines(&said));
            return Err(Error::EndedAtStart { server: spec.server, status: status.to_string(), log, tail });
        }
        tracing::info!("{} is held up by what a killed one left; trying again", spec.server);
        tokio::time::sleep(REFUSED_INTERVAL).await;
    }
}

async fn start(spec: &LaunchSpec) -> Result<Start, Error> {
    let (log, from) = spec.log.open()?;
    let same = log.try_clone().context(|| format!("open {}", spec.log.path().display()))?;
    let mut command = Command::new(&spec.program);
    spec.run_as.apply(&mut command);
    command.args(&spec.arguments).envs(spec.environment.iter().map(|(key, value)| (key, value)));
    command.current_dir(&spec.folder).stdin(Stdio::null()).stdout(log).stderr(same);
    let mut child = command.spawn().context(|| format!("start {}", spec.program.display()))?;
    if let Some(pid) = child.id() {
        let file = spec.pid_file();
        fs::write(&file, format!("{pid}\n")).context(|| format!("write {}", file.display()))?;
    }
    let give_up = Instant::now() + READY_LIMIT;
    loop {
        let ended = child.try_wait().context(|| format!("watch {}", spec.server))?;
        if let Some(status) = ended {
            return Ok(Start::Ended(status, spec.log.since(from)));
        }
        if child.id().is_some_and(|pid| spec.ready.is_told(pid, &spec.log, from)) {
            return Ok(Start::Ready(child));
        }
        if Instant::now() > give_up {
            // Dropping the child kills it.
            let (log, tail) = (spec.log.path().to_owned(), spec.log.tail());
            return Err(Error::NotReady { server: spec.server, limit: READY_LIMIT, log, tail });
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
}

/// Runs a program that prepares a server, to its end.
pub(crate) async fn prepare(
    program: &'static str,
    run_as: &RunAs,
    mut command: Command,
    limit: Duration,
) -> Result<String, Error> {
    run_as.apply(&mut command);
    let output = tokio::time::timeout(limit, command.stdin(Stdio::null()).output()).await;
    let Ok(output) = output else {
        let status = format!("it did not end within {limit:?}");
        return Err(Error::Preparation { program, status, output: String::new() });
    };
    let output = output.context(|| format!("run {program}"))?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() {
        return Ok(said);
    }
    Err(Error::Preparation { program, status: output.status.to_string(), output: last_lines(&said) })
}
