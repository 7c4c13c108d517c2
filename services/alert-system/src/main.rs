//! The alert worker as a process of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    service::run(&alert_system::SERVICE).await
}
