//! `flightbell`: reads what is asked, does it, and says how it ended.

use std::process::ExitCode;

use clap::Parser;
use flightbell::{
    cli::{Cli, Command},
    demo, dlq, doctor, gateway, up,
};
use shell::config::ProcessEnv;

#[tokio::main]
async fn main() -> ExitCode {
    shell::choose_tls();
    let ended = match Cli::parse().command {
        Command::Up(args) => up::run(args, &ProcessEnv).await,
        Command::Demo(args) => demo::run(args, &ProcessEnv).await,
        Command::Gateway(args) => gateway::run(args, &ProcessEnv).await,
        Command::Doctor(args) => doctor::run(args, &ProcessEnv).await,
        Command::Dlq(args) => dlq::run(args, &ProcessEnv).await,
    };
    shell::exit_code(ended)
}
