//! Servers that outlived us.
//!
//! A SIGKILL of ours leaves the servers running. They are found in the system's table of processes
//! by what they were started as. A pid file is not trusted for this: pids are used again, so one
//! may name a stranger.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{process::Command, time::Instant};

use crate::{
    core::identity::CommandLine,
    error::{Doing, Error},
};

/// How often a process is looked for while it ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A running server that nobody watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// `PostgreSQL` or `Kafka`.
    pub server: &'static str,
    /// Its process.
    pub pid: u32,
}

/// The servers that run in `data_dir`. When nobody holds the directory's lock they are left over;
/// the next `up` stops them first.
///
/// # Errors
/// When the processes cannot be listed.
pub async fn running(data_dir: &Path) -> Result<Vec<Leftover>, Error> {
    let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    let (data, properties) = (crate::postgres::data_of(&data_dir), crate::kafka::properties_of(&data_dir, "kafka"));
    let found = processes().await?.into_iter().filter_map(|(pid, line)| {
        let server = match () {
            () if line.is_postgres_of(&data) => "PostgreSQL",
            () if line.is_kafka_of(&properties) => "Kafka",
            () => return None,
        };
        Some(Leftover { server, pid })
    });
    Ok(found.collect())
}

/// Ends every process that `is_ours`, by each signal in turn with a time to obey it.
pub(crate) async fn stop(
    server: &'static str,
    signals: &[(Signal, Duration)],
    is_ours: impl Fn(&CommandLine) -> bool,
) -> Result<(), Error> {
    let mut last = None;
    for (signal, patience) in signals {
        // Looked for before every signal: in between, the pid may have become somebody else's.
        let give_up = Instant::now() + *patience;
        let mut sent = false;
        loop {
            let found = processes().await?.into_iter().find(|(_, line)| is_ours(line));
            let Some((pid, _)) = found else { return Ok(()) };
            last = Some(pid);
            if !sent {
                tracing::info!("stopping {server} of an earlier run (process {pid})");
                send(pid, *signal);
                sent = true;
            }
            if Instant::now() >= give_up {
                break;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
    last.map_or(Ok(()), |pid| Err(Error::LeftoverStays { server, pid }))
}

/// Sends a signal, and wakes a process that was stopped, so that it can obey.
pub(crate) fn send(pid: u32, signal: Signal) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    for signal in [signal, Signal::CONT] {
        // It may have ended by itself: whoever waits for it will see.
        if let Err(error) = kill_process(pid, signal) {
            tracing::debug!("signal process {}: {error}", pid.as_raw_nonzero());
        }
    }
}

/// Whether a process has this pid, whoever's it is.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Every process and what it was started as.
pub(crate) async fn processes() -> Result<Vec<(u32, CommandLine)>, Error> {
    if Path::new("/proc/self/cmdline").exists() { from_proc() } else { from_ps().await }
}

fn from_proc() -> Result<Vec<(u32, CommandLine)>, Error> {
    let entries = std::fs::read_dir("/proc").doing(|| "list the processes in /proc".to_owned())?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let lines = pids.filter_map(|pid| {
        // A process that ended meanwhile has no file any more, a dead one that nobody waited for an empty one.
        let text = std::fs::read(PathBuf::from(format!("/proc/{pid}/cmdline"))).ok()?;
        let text = String::from_utf8_lossy(text.strip_suffix(b"\0")?).into_owned();
        Some((pid, CommandLine::Arguments(text.split('\0').map(str::to_owned).collect())))
    });
    Ok(lines.collect())
}

async fn from_ps() -> Result<Vec<(u32, CommandLine)>, Error> {
    let mut command = Command::new("ps");
    command.args(["-axww", "-o", "pid=,command="]).stdin(Stdio::null());
    let output = command.output().await.doing(|| "list the processes with ps".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| {
        let (pid, command) = line.trim_start().split_once(' ')?;
        Some((pid.parse().ok()?, CommandLine::Joined(command.trim().to_owned())))
    });
    Ok(lines.collect())
}
