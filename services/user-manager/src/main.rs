//! user-manager as a process of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    service::run(&user_manager::SERVICE).await
}
