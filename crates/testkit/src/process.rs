//! Our binaries as processes of their own: started, listened to, signalled, killed.

use std::{
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

/// How long a process may take for anything that takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an orderly stop may take.
pub const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How many lines of a process's log are shown where a test failed.
const LAST_LINES: usize = 40;

type Lines = Arc<Mutex<Vec<String>>>;

/// A running process, and what it has said. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    out: Lines,
    log: Lines,
    readers: JoinSet<()>,
}

impl Process {
    /// Starts `binary` with these arguments, and nothing in the environment but what is given and the
    /// path of programs.
    pub fn start<K, V>(
        binary: impl AsRef<Path>,
        arguments: &[&str],
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Self
    where
        K: AsRef<std::ffi::OsStr>,
        V: AsRef<std::ffi::OsStr>,
    {
        let binary = binary.as_ref();
        let name = binary.file_name().unwrap_or(binary.as_os_str()).to_string_lossy().into_owned();
        let mut child = Command::new(binary)
            .args(arguments)
            .env_clear()
            .env("PATH", env!("PATH"))
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        let (out, log) = (Lines::default(), Lines::default());
        let mut readers = JoinSet::new();
        readers.spawn(collect(child.stdout.take().expect("its output"), Arc::clone(&out)));
        readers.spawn(collect(child.stderr.take().expect("its log"), Arc::clone(&log)));
        Self { name, child, out, log, readers }
    }

    /// Its name, as the file of the program is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        text(&self.log)
    }

    /// Everything it has printed.
    #[must_use]
    pub fn out(&self) -> String {
        text(&self.out)
    }

    /// Waits for a line on standard output that begins so, and answers its rest.
    pub async fn says(&mut self, beginning: &str) -> String {
        let said = async {
            loop {
                let line = self.out().lines().find_map(|line| line.strip_prefix(beginning).map(str::to_owned));
                if let Some(rest) = line {
                    return rest.trim().to_owned();
                }
                if let Ok(Some(status)) = self.child.try_wait() {
                    panic!("{} ended with {status}:\n{}", self.name, self.log());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let said = tokio::time::timeout(PATIENCE, said).await;
        said.unwrap_or_else(|_| panic!("{} never said {beginning:?}; its log:\n{}", self.name, self.log()))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// Freezes it, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        self.signal(if frozen { Signal::STOP } else { Signal::CONT });
    }

    /// Whether it has ended.
    pub fn is_over(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        self.ended_within(PATIENCE).await
    }

    async fn ended_within(&mut self, limit: Duration) -> ExitStatus {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{} does not end:\n{}", self.name, self.log())).expect("a status");
        // Its last words are read before anybody asks for them.
        while self.readers.join_next().await.is_some() {}
        status
    }

    /// Waits for its end: its exit code, or 128 and the signal that ended it, as a shell would say.
    pub async fn code(&mut self) -> i32 {
        let status = self.ended().await;
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }

    /// Waits until it has died by SIGKILL, at a fault point for instance.
    pub async fn killed(mut self) {
        let status = self.ended().await;
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{} ended with {status}:\n{}", self.name, self.log());
    }

    /// SIGKILL, and its end.
    pub async fn kill(self) {
        self.signal(Signal::KILL);
        self.killed().await;
    }

    /// SIGTERM, and its clean end within the time limit of a stop. Answers the log.
    pub async fn stop(self) -> String {
        self.signal(Signal::TERM);
        self.clean_end().await
    }

    /// The clean end, within the time limit of a stop, of a process that was asked for it. Answers the log.
    pub async fn clean_end(mut self) -> String {
        let status = self.ended_within(STOP_LIMIT).await;
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.log());
        self.log()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            eprintln!("---- what {} logged last ----\n{}", self.name, last.join("\n"));
        }
    }
}

/// Runs `binary` with this environment alone until it ends: its exit code, and its last words.
pub async fn last_words(binary: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut process = Process::start(binary, &[], environment.iter().copied());
    let status = process.ended().await;
    (status.code(), process.log())
}

/// A loopback address whose port was free a moment ago, for a process that is told its port. Taken from below the range
/// from which the system hands out ports by itself, so that no other process gets it meanwhile.
#[must_use]
pub fn free_addr() -> SocketAddr {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 11_000 + u16::try_from(std::process::id() % 9_000).expect("small");
    loop {
        let addr = SocketAddr::from(([127, 0, 0, 1], first + NEXT.fetch_add(1, Ordering::Relaxed) % 9_000));
        if std::net::TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// What a process answers to `/readyz` on its admin port, or nothing while it does not.
pub async fn readyz(admin: SocketAddr) -> String {
    match crate::http_client().get(format!("http://{admin}/readyz")).send().await {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// Waits until a process says on its admin port that it is ready.
pub async fn wait_until_ready(admin: SocketAddr) {
    let ready = async || readyz(admin).await.contains("\"status\":\"ready\"");
    crate::wait_for("the process to be ready", PATIENCE, ready).await;
}

fn text(lines: &Lines) -> String {
    lines.lock().expect("no panic").join("\n")
}

async fn collect(from: impl AsyncRead + Unpin, into: Lines) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        into.lock().expect("no panic").push(line);
    }
}
