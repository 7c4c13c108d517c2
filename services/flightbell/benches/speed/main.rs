//! How fast and how small Flightbell is, beside what it set out to reach: `make bench`.
//!
//! The real binaries, built for release, on a private PostgreSQL and Kafka that keep what they acknowledge, between the
//! simulators for OpenSky and Telegram. Linux only: sizes and CPU times come from `/proc`. Arguments name the parts to
//! measure (all without any); `--check` makes a missed target an error.

#![allow(clippy::expect_used, clippy::panic, reason = "what cannot be measured ends the benchmark")]

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/deployment.rs"]
mod deployment;
mod fan_out;
mod floor;
mod http;
mod latency;
mod ledger;
mod load;
mod planning;
mod process;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/program.rs"]
mod program;
mod rows;
mod separate;
mod table;
mod up;

use std::process::ExitCode;

use table::Table;

const PARTS: [&str; 8] = ["start", "idle", "latency", "separate", "fan-out", "http", "planning", "ledger"];

#[tokio::main]
async fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let is_strict = arguments.iter().any(|argument| argument == "--check");
    let named: Vec<&str> = arguments.iter().map(String::as_str).filter(|argument| *argument != "--check").collect();
    if let Some(unknown) = named.iter().find(|name| !PARTS.contains(name)) {
        eprintln!("there is no part {unknown:?}: --check and any of {} are known", PARTS.join(", "));
        return ExitCode::from(2);
    }
    let mut table = Table::default();
    for part in PARTS.into_iter().filter(|part| named.is_empty() || named.contains(part)) {
        match part {
            "start" => up::starts(&mut table).await,
            "idle" => up::idle(&mut table).await,
            "latency" => up::latency(&mut table).await,
            "separate" => separate::idle_and_latency(&mut table).await,
            "fan-out" => fan_out::measure(&mut table).await,
            "http" => http::measure(&mut table).await,
            "planning" => planning::measure(&mut table).await,
            _ => ledger::measure(&mut table).await,
        }
    }
    println!("\n{table}");
    if is_strict && table.missed() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
