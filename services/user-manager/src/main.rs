//! user-manager as a process of its own.

use std::process::ExitCode;

use shell::{Process, clock::Clock, config::ProcessEnv, exit_code};
use user_manager::{Config, start};

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run().await)
}

async fn run() -> anyhow::Result<()> {
    let config = Config::from_vars(&ProcessEnv)?;
    let mut process = Process::start(&config.shell)?;
    let shell = process.shell("user-manager", Clock::system());
    process.serve_admin(config.shell.admin_addr).await?;
    start(config, &shell).await?;
    process.run().await
}
