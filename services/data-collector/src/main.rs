//! The data-collector process.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    service::run(&data_collector::SERVICE).await
}
