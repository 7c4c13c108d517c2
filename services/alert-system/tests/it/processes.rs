//! The real binary as a process of its own.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::world::{PATIENCE, World};

pub struct Process {
    child: Child,
    admin: String,
}

impl Process {
    /// Starts the worker on the world's servers, with more of an environment.
    pub async fn start(world: &World, environment: &[(&str, &str)]) -> Self {
        // The port is free now; nobody else takes it in the moment until the worker does.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let admin = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let child = Command::new(env!("CARGO_BIN_EXE_alert-system"))
            .env_clear()
            .env("DATABASE_URL", &world.database.url)
            .env("KAFKA_BROKER_URL", &world.kafka.bootstrap)
            .env("KAFKA_PARTITIONS", world.kafka.partitions.to_string())
            .env("ADMIN_ADDR", &admin)
            .env("RUST_LOG", "warn")
            .envs(environment.iter().copied())
            .kill_on_drop(true)
            .spawn()
            .expect("the worker's process");
        Self { child, admin }
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("an end in time").expect("an end")
    }

    pub async fn wait_until_ready(&self) {
        let ready = async || self.readyz().await.contains("\"status\":\"ready\"");
        testkit::wait_for("the worker to be ready", PATIENCE, ready).await;
    }

    /// What it answers, or nothing while it does not.
    pub async fn readyz(&self) -> String {
        let answer = testkit::http_client().get(format!("http://{}/readyz", self.admin)).send().await;
        match answer {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    pub async fn post(&self, path: &str) -> String {
        let answer = testkit::http_client().post(format!("http://{}{path}", self.admin)).send().await;
        answer.expect("an answer").text().await.expect("text")
    }

    /// SIGTERM, and a clean end within 20 s.
    pub async fn terminate(self) {
        self.signal(Signal::TERM);
        let begun = std::time::Instant::now();
        let status = self.ended().await;
        assert!(status.success(), "{status}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    /// SIGKILL.
    pub async fn kill(self) {
        self.signal(Signal::KILL);
        assert!(self.ended().await.signal().is_some());
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("a living process");
        kill_process(pid, signal).expect("a signal");
    }
}

/// Starts the binary with this environment alone: how it ends, and its last words.
pub async fn last_words(environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_alert-system"))
        .env_clear()
        .envs(environment.iter().copied())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, ended).await.expect("an end in time").expect("an end");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
