//! The notifier as a process of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    shell::service::run(&notifier::SERVICE).await
}
