//! The real binary as a process of its own.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, process::Stdio, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

use crate::world::{PATIENCE, World};

/// A world whose Kafka nobody else uses: the binary reads the contract's topics as the contract's group.
pub struct Lone {
    pub world: World,
    _kafka: testkit::Kafka,
}

impl Lone {
    pub async fn new() -> Self {
        let kafka = testkit::lone_kafka().await;
        let world = World::on(kafka.bootstrap.clone(), contracts::topics::Namespace::default()).await;
        Self { world, _kafka: kafka }
    }
}

pub struct Process {
    child: Child,
    log: Arc<std::sync::Mutex<String>>,
    _reader: JoinSet<()>,
}

impl Process {
    /// Starts the notifier on the world's servers, with more of an environment.
    pub fn start(world: &World, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_notifier"))
            .env_clear()
            .envs(world.environment(&world.database_url, &world.kafka.bootstrap))
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the notifier's process");
        let log = Arc::<std::sync::Mutex<String>>::default();
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let mut reader = JoinSet::new();
        let written = log.clone();
        reader.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = written.lock().expect("a log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, _reader: reader }
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("a log").clone()
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("no end in time: {}", self.log())).expect("an end")
    }

    /// Waits until it dies by SIGKILL, at a fault point.
    pub async fn killed_itself(self) {
        let status = self.ended().await;
        assert_eq!(status.signal(), Some(9), "{status}");
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
        self.killed_itself().await;
    }

    /// Freezes it, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        self.signal(if frozen { Signal::STOP } else { Signal::CONT });
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("a living process");
        kill_process(pid, signal).expect("a signal");
    }
}

/// Starts the binary with this environment alone: how it ends, and its last words.
pub async fn last_words(environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_notifier"))
        .env_clear()
        .envs(environment.iter().copied())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, ended).await.expect("an end in time").expect("an end");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
