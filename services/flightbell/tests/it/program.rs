//! Our binaries as processes of their own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use testkit::Process;
use tokio::{process::Command, sync::OnceCell};

/// How long anything may take that takes a moment.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary of that name, as the sources are now.
pub async fn binary(name: &str) -> PathBuf {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    let own = PathBuf::from(env!("CARGO_BIN_EXE_flightbell"));
    if own.ends_with(name) {
        return own;
    }
    let folder = own.parent().expect("a folder");
    BUILT.get_or_init(|| build(folder, &["--workspace", "--bins"])).await;
    let beside = folder.join(name);
    assert!(beside.exists(), "{} is missing: cargo build --workspace --bins", beside.display());
    beside
}

/// The example of that name of this crate, as the sources are now.
pub async fn example(name: &str) -> PathBuf {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_flightbell"));
    let folder = own.parent().expect("a folder");
    // The whole workspace, so that its dependencies have the features with which they are built already.
    build(folder, &["--workspace", "--example", name]).await;
    folder.join("examples").join(name)
}

/// For a `cargo test -p flightbell`, which builds no binary but its own: the others beside it would be missing,
/// or, worse, old. Where they are as they should be, this takes half a second.
async fn build(folder: &Path, what: &[&str]) {
    let profile = match folder.file_name().and_then(|name| name.to_str()).expect("a profile") {
        "debug" => "dev",
        other => other,
    };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked"])
        .args(what)
        .args(["--profile", profile, "--target-dir"])
        .arg(folder.parent().expect("the target folder"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .await;
    assert!(built.expect("cargo runs").success(), "cargo build {} failed", what.join(" "));
}

/// Starts `name` with these arguments and nothing in the environment but what is given.
pub async fn start(name: &str, arguments: &[&str], environment: &[(&str, String)]) -> Process {
    Process::start(binary(name).await, arguments, environment.iter().map(|(key, value)| (*key, value)))
}
