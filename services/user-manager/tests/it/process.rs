//! The real binary as a process of its own.

use std::{
    fs::File,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::world::{Call, PATIENCE};

pub struct Process {
    child: Child,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    log: tempfile::NamedTempFile,
}

impl Process {
    /// Starts the service with more of an environment, and waits until it is ready.
    pub async fn start(database_url: &str, collector: SocketAddr, environment: &[(&str, &str)]) -> Self {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let (http, grpc, admin) = (free_port(), free_port(), free_port());
        let child = Command::new(env!("CARGO_BIN_EXE_user-manager"))
            .env_clear()
            .env("DATABASE_URL", database_url)
            .env("DATA_COLLECTOR_GRPC_URL", format!("http://{collector}"))
            .env("HTTP_ADDR", http.to_string())
            .env("GRPC_ADDR", grpc.to_string())
            .env("ADMIN_ADDR", admin.to_string())
            .envs(environment.iter().copied())
            .stderr(Stdio::from(File::create(log.path()).expect("a file")))
            .kill_on_drop(true)
            .spawn()
            .expect("the service's process");
        let process = Self { child, http, admin, log };
        let ready = async || process.readyz().await.contains("\"status\":\"ready\"");
        testkit::wait_for("the service to be ready", PATIENCE, ready).await;
        process
    }

    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::to(self.http, method, path)
    }

    /// What it answers on the admin port, or nothing while it does not.
    pub async fn readyz(&self) -> String {
        match testkit::http_client().get(format!("http://{}/readyz", self.admin)).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).expect("the log")
    }

    /// Waits until it was killed.
    pub async fn killed(mut self) {
        assert_eq!(self.ended().await.signal(), Some(9), "{}", self.log());
    }

    /// SIGTERM, and a clean end within 20 s. Answers the log.
    pub async fn terminate(self) -> String {
        self.signal(Signal::TERM);
        self.clean_end().await
    }

    /// A clean end within 20 s of a process that was asked to. Answers the log.
    pub async fn clean_end(mut self) -> String {
        let begun = std::time::Instant::now();
        let status = self.ended().await;
        assert!(status.success(), "{status}: {}", self.log());
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        self.log()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("a living process");
        kill_process(pid, signal).expect("a signal");
    }

    async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("an end in time").expect("an end")
    }
}

/// Starts the binary with this environment alone: how it ends, and its last words.
pub async fn last_words(environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_user-manager"))
        .env_clear()
        .envs(environment.iter().copied())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, ended).await.expect("an end in time").expect("an end");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A port that is free now; nobody else takes it in the moment until the service does.
pub fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}
