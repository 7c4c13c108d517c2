use std::{path::Path, process::Stdio};

use tokio::process::Command;

use crate::{program, town::places};

/// Where a picture of the page is left for whoever wants to look.
fn picture() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.png")
}

#[tokio::test(flavor = "multi_thread")]
async fn within_two_minutes_the_page_shows_paris_rising_and_clearing_and_san_francisco_falling() {
    let browser = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let installed = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&browser).output().await;
    let installed = installed.expect("npm runs");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));

    let page = testkit::free_addr().to_string();
    let environment = [("XDG_CACHE_HOME", places().cache_home.display().to_string())];
    let arguments = ["demo", "--listen", "127.0.0.1:0", "--page", &page];
    let mut demo = program::start("flightbell", &arguments, &environment).await;
    let address = demo.says("open ").await;

    let looking = Command::new("node")
        .arg("demo.mjs")
        .arg(&address)
        .arg(picture())
        .arg("120")
        .current_dir(&browser)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("node runs");
    let seen = String::from_utf8_lossy(&looking.stdout);
    assert!(looking.status.success(), "{seen}\n{}\n{}", String::from_utf8_lossy(&looking.stderr), demo.log());
    for words in ["KSFO", "(353) is below the low threshold of 400", "LFPG", "is back within the thresholds", "replay"]
    {
        assert!(seen.contains(words), "{words:?} is not in\n{seen}");
    }
    demo.stop().await;
}
