//! The notifier as a process of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    service::run(&notifier::SERVICE).await
}
