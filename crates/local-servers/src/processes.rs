//! The system's table of processes, and signals to what is found there.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{process::Command, time::Instant};

use crate::{
    core::identity::{CommandLine, Entry, without_forks},
    error::{Error, ErrorContext},
};

/// How often a process is looked for while it ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Ends every process that `is_ours`, by each signal in turn with a time to obey it.
pub(crate) async fn stop(
    server: &'static str,
    signals: &[(Signal, Duration)],
    is_ours: impl Fn(&CommandLine) -> bool,
) -> Result<(), Error> {
    let mut last = None;
    for (signal, grace) in signals {
        // Looked for before every signal: in between, the pid may have become another process's.
        let give_up = Instant::now() + *grace;
        let mut sent = false;
        loop {
            let found = processes().await?.into_iter().find(|(_, line)| is_ours(line));
            let Some((pid, _)) = found else { return Ok(()) };
            last = Some(pid);
            if !sent {
                tracing::info!("stopping {server} of an earlier run (process {pid})");
                send(pid, *signal);
                wake_forks(pid).await;
                sent = true;
            }
            if Instant::now() >= give_up {
                break;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
    last.map_or(Ok(()), |pid| Err(Error::OrphanStays { server, pid }))
}

/// Sends a signal, and wakes a process that was stopped, so that it can obey.
pub(crate) fn send(pid: u32, signal: Signal) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    for signal in [signal, Signal::CONT] {
        // It may have ended by itself: the caller, which waits for it, will see.
        if let Err(error) = kill_process(pid, signal) {
            tracing::debug!("signal process {}: {error}", pid.as_raw_nonzero());
        }
    }
}

/// Whether a process has this pid, whichever user runs it.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Wakes the processes that `pid` forked: PostgreSQL does not end before each of its own has obeyed.
pub(crate) async fn wake_forks(pid: u32) {
    match table().await {
        Ok(all) => all.iter().filter(|entry| entry.parent == pid).for_each(|fork| send(fork.pid, Signal::CONT)),
        Err(error) => tracing::debug!("wake what process {pid} forked: {error}"),
    }
}

/// Every process and what it was started as.
pub(crate) async fn processes() -> Result<Vec<(u32, CommandLine)>, Error> {
    Ok(without_forks(table().await?).into_iter().map(|entry| (entry.pid, entry.line)).collect())
}

async fn table() -> Result<Vec<Entry>, Error> {
    if Path::new("/proc/self/cmdline").exists() { from_proc() } else { from_ps().await }
}

fn from_proc() -> Result<Vec<Entry>, Error> {
    let entries = std::fs::read_dir("/proc").context(|| "list the processes in /proc".to_owned())?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let lines = pids.filter_map(|pid| {
        let of = PathBuf::from(format!("/proc/{pid}"));
        // A process that ended meanwhile has no file any more, a dead one that its parent has not waited for an empty
        // one.
        let text = std::fs::read(of.join("cmdline")).ok()?;
        let text = String::from_utf8_lossy(text.strip_suffix(b"\0")?).into_owned();
        // proc(5): the parent comes second after the program's name, which is in brackets and may hold anything.
        let stat = String::from_utf8_lossy(&std::fs::read(of.join("stat")).ok()?).into_owned();
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some(Entry { pid, parent, line: CommandLine::Arguments(text.split('\0').map(str::to_owned).collect()) })
    });
    Ok(lines.collect())
}

async fn from_ps() -> Result<Vec<Entry>, Error> {
    let mut command = Command::new("ps");
    command.args(["-axww", "-o", "pid=,ppid=,command="]).stdin(Stdio::null());
    let output = command.output().await.context(|| "list the processes with ps".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| {
        let (pid, rest) = line.trim_start().split_once(' ')?;
        let (parent, command) = rest.trim_start().split_once(' ')?;
        let line = CommandLine::Joined(command.trim().to_owned());
        Some(Entry { pid: pid.parse().ok()?, parent: parent.parse().ok()?, line })
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_forked_does_not_pass_for_the_program() {
        // The brackets make the shell fork, and both wait for a line.
        let script = "(read -r line; true); true # a-mark-of-this-test";
        let mut child =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).kill_on_drop(true).spawn().expect("a shell");
        let line = CommandLine::Arguments(["sh", "-c", script].map(str::to_owned).to_vec());
        let begun = Instant::now();
        while from_proc().expect("a list").iter().filter(|entry| entry.line == line).count() < 2 {
            assert!(begun.elapsed() < Duration::from_secs(20), "it forks");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let found = processes().await.expect("a list").into_iter().filter(|(_, found)| *found == line);
        assert_eq!(found.map(|(pid, _)| Some(pid)).collect::<Vec<_>>(), [child.id()]);
        child.kill().await.expect("an end");
    }
}
