//! `with-servers -- COMMAND…` runs a command with a Kafka and a PostgreSQL that last as long as it.
//!
//! The command finds their addresses in its environment. Its exit code is ours; servers and folder
//! go at its end, also when it fails, on Ctrl-C and on SIGTERM, and by the watchdog when we are killed.

use std::{
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use testkit::{KAFKA, OwnServers, POSTGRES, SKIPPED};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

/// How long the command may take to end once it was asked to.
const END_LIMIT: Duration = Duration::from_secs(15);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1).skip_while(|word| word == "--");
    let program = words.next().context("usage: with-servers -- COMMAND…")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    eprintln!("==> starting Kafka and PostgreSQL for the tests");
    let begun = Instant::now();
    let servers = tokio::select! {
        servers = OwnServers::start() => servers?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    let addresses = servers.addresses();
    let (kafka, postgres) = (&addresses.kafka, addresses.postgres);
    eprintln!("==> Kafka {kafka} and PostgreSQL {postgres} are ready after {:.1?}", begun.elapsed());
    let mut command = Command::new(&program);
    command.args(words).env(KAFKA, kafka).env(POSTGRES, postgres.to_string()).kill_on_drop(true);
    let skipped = tempfile::NamedTempFile::new().context("make a list of skipped tests")?;
    command.env(SKIPPED, skipped.path());
    let run = async {
        let mut child = command.spawn().with_context(|| format!("run {}", program.display()))?;
        let asked = tokio::select! {
            status = child.wait() => return Ok(status?),
            // A terminal sends its signal to the command as well; a second one does no harm.
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
        };
        end(&mut child, asked).await
    };
    let status: anyhow::Result<ExitStatus> = run.await;
    servers.stop().await;
    tell_skipped(&std::fs::read_to_string(skipped.path()).context("read which tests were skipped")?);
    Ok(exit_code(status?))
}

/// Last, so that it is not overlooked.
fn tell_skipped(list: &str) {
    let tests: Vec<_> = list.lines().collect();
    if !tests.is_empty() {
        eprintln!("==> {} tests were SKIPPED, and prove nothing on this machine:", tests.len());
        tests.iter().for_each(|test| eprintln!("    {test}"));
    }
}

async fn end(child: &mut Child, asked: Signal) -> anyhow::Result<ExitStatus> {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        kill_process(pid, asked).context("pass the signal on")?;
    }
    if let Ok(status) = tokio::time::timeout(END_LIMIT, child.wait()).await {
        return Ok(status?);
    }
    child.kill().await?;
    Ok(child.wait().await?)
}

/// As a shell tells it: a signal's number above 128.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
