//! What the tests share: a data directory that the servers' user reaches, and condition waits.

use std::{
    fs,
    future::Future,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use local_servers::Places;
use tempfile::TempDir;

/// The places of this machine, out of the environment.
pub fn places() -> Places {
    let path = |key| std::env::var_os(key).map(PathBuf::from);
    let cache = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache"))).expect("a home folder");
    Places::new(std::env::var_os("PATH").unwrap_or_default(), path("JAVA_HOME"), path("KAFKA_HOME"), cache)
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

/// Waits until `is_so`, at most `limit`.
pub async fn wait_for<F: Future<Output = bool>>(what: &str, limit: Duration, mut is_so: impl FnMut() -> F) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < limit, "{what}: not so after {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("signalled");
}
