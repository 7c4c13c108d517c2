#![doc = include_str!("../README.md")]

pub mod bind_guard;
mod certificates;
mod certs;
#[expect(clippy::doc_markdown, reason = "these comments are the help text, which is no markdown")]
pub mod cli;
pub mod demo;
pub mod dlq;
pub mod doctor;
pub mod effective;
pub mod gateway;
pub mod migrate;
pub mod paths;
#[cfg(test)]
mod readme_tests;
pub mod running_instance;
pub mod services;
pub mod settings;
pub mod up;

use std::process::ExitCode;

use runtime::config::ProcessEnv;
use rustix::fs::Mode;

use crate::{cli::Command, services::ServiceList};

pub use services::SERVICES;

/// Does what the command line asks of a program that consists of `services`.
pub async fn run(services: ServiceList) -> ExitCode {
    runtime::choose_tls();
    // Whatever the umask lets others do: nothing that this process or its servers make can be changed by them.
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask | Mode::WGRP | Mode::WOTH);
    let ended = run_command(cli::parse(services), services).await;
    let needs_other_version = ended.as_ref().is_err_and(anyhow::Error::is::<migrate::OtherVersionNeeded>);
    let code = runtime::exit_code(ended);
    if needs_other_version { ExitCode::from(migrate::EXIT_OTHER_VERSION) } else { code }
}

async fn run_command(command: Command, services: ServiceList) -> anyhow::Result<()> {
    let topics = services::topics(services)?;
    match command {
        Command::Up(args) => up::run(args, services, &ProcessEnv).await,
        Command::Demo(args) => demo::run(args, &ProcessEnv).await,
        Command::Gateway(args) => gateway::run(args, &ProcessEnv).await,
        Command::Certs(args) => certs::run(&args),
        Command::Doctor(args) => doctor::run(args, services, &topics, &ProcessEnv).await,
        Command::Migrate(args) => migrate::run(args, services, &ProcessEnv).await,
        Command::Dlq(args) => dlq::run(args, &topics, &ProcessEnv).await,
    }
}
