//! `flightbell up`: how soon it is ready, what it takes while nothing happens, and how long a message
//! takes through it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use testkit::Process;

use crate::{
    deployment::{TestEnv, client, folder, up},
    latency,
    process::{Usage, watch},
    table::{Table, Target},
};

/// How often each kind of start is tried; the slowest counts.
const ROUNDS: u32 = 3;
/// What a start leaves behind is over by then.
const SETTLING: Duration = Duration::from_secs(15);
/// How long memory and CPU are watched.
pub const WATCHED: Duration = Duration::from_secs(60);

/// From the start of the process to the line that says it is ready.
async fn timed(env: &TestEnv, data: &Path) -> (Process, f64) {
    let begun = Instant::now();
    let (program, base) = up(env, data, &[]).await;
    let took = begun.elapsed().as_secs_f64();
    let ping = client(&data.join("tls/cert.pem")).await.get(format!("{base}/user-manager/ping")).send().await;
    assert_eq!(ping.expect("answered").status(), 200);
    (program, took)
}

/// On a new folder, after a clean stop, and after a SIGKILL that leaves its servers running.
pub async fn starts(table: &mut Table) {
    println!("starting, {ROUNDS} times each way");
    let env = TestEnv::new().await;
    let (mut first, mut stopped, mut killed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let parent = folder();
        let data = parent.path().join("data");
        let (program, took) = timed(&env, &data).await;
        first.push(took);
        program.stop().await;
        let (program, took) = timed(&env, &data).await;
        stopped.push(took);
        program.kill().await;
        let (program, took) = timed(&env, &data).await;
        killed.push(took);
        program.stop().await;
    }
    let mut add = |what, limit, times: Vec<f64>| {
        let slowest = times.iter().copied().fold(0.0, f64::max);
        let all: Vec<_> = times.iter().map(|time| format!("{time:.1}")).collect();
        table.add(what, Target::Under(limit), slowest, "s", format!("slowest of {}", all.join(", ")));
    };
    add("first start", 20.0, first);
    add("start after a clean stop", 6.0, stopped);
    add("start after a SIGKILL", 15.0, killed);
}

/// With nothing watched.
pub async fn idle(table: &mut Table) {
    println!("`up` with nothing watched, {} s", (SETTLING + WATCHED).as_secs());
    let (env, parent) = (TestEnv::new().await, folder());
    let data = parent.path().join("data");
    let (program, _) = up(&env, &data, &[]).await;
    let servers = local_servers::orphans::running(&data).await.expect("looked");
    let kafka = servers.iter().find(|server| server.server == "Kafka").expect("it runs").pid;
    tokio::time::sleep(SETTLING).await;
    let [own, kafka] = watch([program.pid(), kafka], WATCHED).await;
    idle_figures(table, ("`up` itself, memory", 60.0), ("`up` itself, CPU", 2.0), own);
    idle_figures(table, ("Kafka beside it, memory", 220.0), ("Kafka beside it, CPU", 4.0), kafka);
    program.stop().await;
}

fn idle_figures(table: &mut Table, memory: (&'static str, f64), cpu: (&'static str, f64), usage: Usage) {
    let over = WATCHED.as_secs();
    let detail = format!("nothing watched, the most in {over} s");
    table.add(memory.0, Target::Under(memory.1), usage.memory, "MiB", detail);
    let detail = format!("nothing watched, of one core over {over} s");
    table.add(cpu.0, Target::Under(cpu.1), usage.cpu, "%", detail);
}

/// Through one process.
pub async fn latency(table: &mut Table) {
    println!("messages through `up`");
    let (env, parent) = (TestEnv::new().await, folder());
    let data = parent.path().join("data");
    let (program, base) = up(&env, &data, &latency::settings()).await;
    let client = client(&data.join("tls/cert.pem")).await;
    let addresses = local_servers::Addresses::read(&data).expect("readable").expect("it runs");
    let what = "reading to Telegram through `up`, 99 %";
    latency::measure(what, table, &env, (&client, &base), &addresses.databases["notifier"]).await;
    program.stop().await;
}
