//! `flightbell` with one service more, as a new one would be added: a folder (`greeter.rs`, `greetings.rs` with
//! the row of its topic, and its migrations) and a line in the list.
//!
//! The end-to-end tests run it to show that nothing else has to be touched, and ARCHITECTURE's
//! walkthrough is this example in words.

mod greeter;
mod greetings;

use std::process::ExitCode;

use flightbell::services::ServiceList;

static SERVICES: ServiceList =
    &[&user_manager::SERVICE, &data_collector::SERVICE, &alert_system::SERVICE, &notifier::SERVICE, &greeter::SERVICE];

#[tokio::main]
async fn main() -> ExitCode {
    flightbell::run(SERVICES).await
}
