//! Our binaries as processes of their own.

use std::{path::PathBuf, time::Duration};

use testkit::Process;
use tokio::{process::Command, sync::OnceCell};

/// How long anything may take that takes a moment.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary of that name, built if this test run did not build it.
pub async fn binary(name: &str) -> PathBuf {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_flightbell")).with_file_name(name);
    if !beside.exists() {
        BUILT.get_or_init(build_services).await;
    }
    assert!(beside.exists(), "{} is missing: cargo build --workspace --bins", beside.display());
    beside
}

/// For a single `cargo test -p flightbell`, which builds only its own binary.
async fn build_services() {
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--bins"])
        .args(["user-manager", "data-collector", "alert-system", "notifier"].iter().flat_map(|name| ["-p", name]))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .await;
    assert!(built.expect("cargo runs").success(), "the services can be built");
}

/// Starts `name` with these arguments and nothing in the environment but what is given.
pub async fn start(name: &str, arguments: &[&str], environment: &[(&str, String)]) -> Process {
    Process::start(binary(name).await, arguments, environment.iter().map(|(key, value)| (*key, value)))
}
