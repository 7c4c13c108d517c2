//! The data-collector process.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    shell::service::run(&data_collector::SERVICE).await
}
