//! `flightbell`: reads what is asked, does it, and says how it ended.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    flightbell::run(flightbell::SERVICES).await
}
