#![doc = include_str!("../README.md")]

mod cluster;
mod core;
mod load;
mod people;
mod pods;
mod sky;
mod stage;
mod steps;
mod wait;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, ensure};
use clap::Parser;

/// Rehearses operations on the lab's node, in whose network it runs.
#[derive(Debug, Parser)]
struct Arguments {
    /// The checkout whose manifests are deployed.
    #[arg(long)]
    checkout: PathBuf,
    /// The lab's folder.
    #[arg(long)]
    lab: PathBuf,
    /// A folder for what is kept meanwhile.
    #[arg(long)]
    work: PathBuf,
    /// The tags of the images: of the release that is there, and of the one that follows.
    #[arg(long, num_args = 2)]
    tags: Vec<String>,
    /// Where the report goes.
    #[arg(long)]
    report: PathBuf,
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "whoever waits reads why it ended")]
async fn main() -> ExitCode {
    match rehearse().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn rehearse() -> anyhow::Result<()> {
    runtime::choose_tls();
    let arguments = Arguments::parse();
    let [old, new] = &arguments.tags[..] else { anyhow::bail!("--tags needs two tags") };
    let cluster = cluster::Cluster::new(arguments.checkout, arguments.lab, &arguments.work).await?;
    let mut report = core::report::Report::default();
    // What was measured before something broke is not lost.
    if let Err(error) = steps::all(cluster, old, new, &mut report).await {
        report.broke_off = Some(format!("{error:#}"));
    }
    tokio::fs::write(&arguments.report, report.markdown()).await.context("write the report")?;
    let misses = report.misses();
    ensure!(misses.is_empty(), "not what it was to be:\n{}", misses.join("\n"));
    Ok(())
}
