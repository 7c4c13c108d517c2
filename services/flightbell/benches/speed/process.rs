//! What a process takes of the machine, as Linux counts it.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{deployment::Deployment, program::PATIENCE};

/// Linux tells CPU time in hundredths of a second, whatever its own clock.
const TICK: Duration = Duration::from_millis(10);

/// Memory and CPU of a process over a while.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The most resident memory that was seen, in MiB.
    pub memory: f64,
    /// The share of one core, in percent.
    pub cpu: f64,
}

/// Starts a service, with `more` in its environment, and waits until it has reached its database.
pub async fn start(deployment: &mut Deployment, service: &'static str, more: &[(&'static str, String)]) {
    deployment.start_with(service, more).await;
    let program = deployment.program(service);
    let said = format!("{service} has started");
    testkit::wait_for("the service", PATIENCE, async || program.log().contains(&said)).await;
}

/// Resident memory in MiB.
pub fn memory(pid: u32) -> f64 {
    status(pid, "VmRSS:")
}

/// The most resident memory ever, in MiB.
pub fn peak_memory(pid: u32) -> f64 {
    status(pid, "VmHWM:")
}

/// Looks at several processes once a second, for so long.
pub async fn watch<const N: usize>(pids: [u32; N], lasting: Duration) -> [Usage; N] {
    let (begun, before) = (Instant::now(), pids.map(cpu_time));
    let mut memory_of = [0.0; N];
    while begun.elapsed() < lasting {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (most, pid) in memory_of.iter_mut().zip(pids) {
            *most = memory(pid).max(*most);
        }
    }
    let elapsed = begun.elapsed();
    std::array::from_fn(|index| {
        let used = cpu_time(pids[index]).saturating_sub(before[index]);
        Usage { memory: memory_of[index], cpu: 100.0 * used.as_secs_f64() / elapsed.as_secs_f64() }
    })
}

fn status(pid: u32, field: &str) -> f64 {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    let kib: f64 = line.split_whitespace().next().expect("a number").parse().expect("a number");
    kib / 1024.0
}

/// In user and system mode, of all its threads.
fn cpu_time(pid: u32) -> Duration {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"));
    // The name, in brackets, may hold anything; the state is the first field behind it.
    let (_, fields) = text.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u32>().expect("ticks"));
    TICK * ticks.sum::<u32>()
}
