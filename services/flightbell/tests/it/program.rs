//! Our binaries as processes of their own.

use std::{
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::OnceCell,
    task::JoinSet,
};

/// How long anything may take that takes a moment.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary of that name, built if this test run did not build it.
pub async fn binary(name: &str) -> PathBuf {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_flightbell")).with_file_name(name);
    if !beside.exists() {
        BUILT.get_or_init(build_services).await;
    }
    assert!(beside.exists(), "{} is missing: cargo build --workspace --bins", beside.display());
    beside
}

/// For a single `cargo test -p flightbell`, which builds only its own binary.
async fn build_services() {
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--bins"])
        .args(["user-manager", "data-collector", "alert-system", "notifier"].iter().flat_map(|name| ["-p", name]))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .await;
    assert!(built.expect("cargo runs").success(), "the services can be built");
}

/// A running process, and what it has said. Dropping it kills it.
pub struct Program {
    pub name: &'static str,
    child: Child,
    out: Arc<Mutex<Vec<String>>>,
    log: Arc<Mutex<Vec<String>>>,
    readers: JoinSet<()>,
}

impl Program {
    /// Starts `name` with these arguments and nothing in the environment but what is given.
    pub async fn start(name: &'static str, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        let mut child = Command::new(binary(name).await)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env!("PATH"))
            .envs(environment.iter().map(|(key, value)| (*key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        let (out, log) = (Arc::default(), Arc::default());
        let mut readers = JoinSet::new();
        readers.spawn(collect(child.stdout.take().expect("its output"), Arc::clone(&out)));
        readers.spawn(collect(child.stderr.take().expect("its log"), Arc::clone(&log)));
        Self { name, child, out, log, readers }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").join("\n")
    }

    /// Everything it has printed.
    pub fn out(&self) -> String {
        self.out.lock().expect("no panic").join("\n")
    }

    /// Waits for a line on standard output that begins so, and answers its rest.
    pub async fn says(&mut self, beginning: &str) -> String {
        let said = async {
            loop {
                let line = self
                    .out
                    .lock()
                    .expect("no panic")
                    .iter()
                    .find_map(|line| line.strip_prefix(beginning).map(str::to_owned));
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
        said.unwrap_or_else(|_| {
            panic!("never said {beginning:?}; its log:\n{}", self.log.lock().expect("no panic").join("\n"))
        })
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// Whether it has ended.
    pub fn is_over(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Its exit code, or 128 and the signal that ended it, as a shell would say.
    pub async fn ended(&mut self) -> i32 {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{} does not end:\n{}", self.name, self.log())).expect("a status");
        // Its last words are read before anybody asks for them.
        while self.readers.join_next().await.is_some() {}
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }

    /// SIGKILL, and its end.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// SIGTERM, and its clean end within the 20 s that the house allows.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let code = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        let status = code.unwrap_or_else(|_| panic!("{} does not stop:\n{}", self.name, self.log())).expect("a status");
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.log());
    }
}

async fn collect(from: impl AsyncRead + Unpin, into: Arc<Mutex<Vec<String>>>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        into.lock().expect("no panic").push(line);
    }
}

/// A loopback port that was free a moment ago, for a process that is told its port. Taken from below
/// the range from which the system hands out ports by itself, so that nobody else gets it meanwhile.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 11_000 + u16::try_from(std::process::id() % 9_000).expect("small");
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 9_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
