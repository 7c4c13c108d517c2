//! The data-collector process.

use std::process::ExitCode;

use data_collector::{Config, start};
use shell::{Process, clock::Clock, config::ProcessEnv};

#[tokio::main]
async fn main() -> ExitCode {
    shell::exit_code(run().await)
}

async fn run() -> anyhow::Result<()> {
    let config = Config::from_vars(&ProcessEnv)?;
    let mut process = Process::start(&config.shell)?;
    let shell = process.shell("data-collector", Clock::system());
    process.serve_admin(config.shell.admin_addr).await?;
    let running = start(config, &shell).await?;
    tracing::info!("answering HTTP on {} and gRPC on {}", running.http, running.grpc);
    process.run().await
}
