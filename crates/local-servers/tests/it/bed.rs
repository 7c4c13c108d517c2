//! What the tests share: a data directory that the servers' user reaches.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
};

use local_servers::{Discovery, Durability, Kafka, KafkaOptions, Postgres, PostgresOptions};
use tempfile::TempDir;

/// The places of this machine, out of the environment.
pub fn discovery() -> Discovery {
    let path = |key| std::env::var_os(key).map(PathBuf::from);
    let cache = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache"))).expect("a home folder");
    Discovery::new(std::env::var_os("PATH").unwrap_or_default(), path("JAVA_HOME"), path("KAFKA_HOME"), cache)
}

/// A data directory that goes with the test.
pub struct Bed(TempDir);

impl Bed {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("fb-").tempdir_in("/tmp").expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("opened");
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Which server [`leave_running`] leaves, and where.
const LEAVE: &str = "LOCAL_SERVERS_TEST_LEAVE";

/// Starts a server in a process of its own that then dies by SIGKILL, so that no process watches it any more and none
/// stopped it.
pub fn leave_running(server: &str, data_dir: &Path) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "bed::the_process_that_dies", "--nocapture"]);
    let status = command.env(LEAVE, format!("{server}:{}", data_dir.display())).status().expect("a process");
    assert_eq!(status.signal(), Some(9), "it should have died by SIGKILL");
}

/// Does nothing unless [`leave_running`] started it.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_dies() {
    let Some(asked) = std::env::var_os(LEAVE) else { return };
    let asked = asked.into_string().expect("text");
    let (server, data_dir) = asked.split_once(':').expect("a server and a place");
    let (discovery, data_dir, durability) = (discovery(), Path::new(data_dir), Durability::ForTests);
    match server {
        "kafka" => std::mem::forget(Kafka::start(KafkaOptions::new(&discovery, data_dir, durability)).await),
        _ => std::mem::forget(Postgres::start(PostgresOptions::new(&discovery, data_dir, durability)).await),
    }
    signal(std::process::id(), rustix::process::Signal::KILL);
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("signalled");
}
