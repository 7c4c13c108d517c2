use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};

use local_servers::orphans;
use testkit::Process;
use tokio::process::Command;

use crate::{
    deployment::{client, discovery, folder},
    program,
};

/// Where a picture of the page is left for a developer who wants to look.
fn picture() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.png")
}

#[tokio::test(flavor = "multi_thread")]
async fn within_two_minutes_the_page_shows_paris_rising_and_clearing_and_san_francisco_falling() {
    let browser = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(
        browser.join("node_modules/playwright-core").exists(),
        "playwright-core is missing: run packaging/deps.sh test, which brings it (make test does so itself)"
    );
    let page = testkit::free_addr().to_string();
    // A proxy elsewhere cannot reach what runs here, so it must not be asked.
    let nowhere = || "http://127.0.0.1:1".to_owned();
    let environment = [
        ("XDG_CACHE_HOME", discovery().cache_home.display().to_string()),
        ("HTTP_PROXY", nowhere()),
        ("HTTPS_PROXY", nowhere()),
    ];
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
        .expect("node runs: packaging/deps.sh test brings it");
    let seen = String::from_utf8_lossy(&looking.stdout);
    assert!(looking.status.success(), "{seen}\n{}\n{}", String::from_utf8_lossy(&looking.stderr), demo.log());
    for words in ["KSFO", "(353) is below the low threshold of 400", "LFPG", "is back within the thresholds", "replay"]
    {
        assert!(seen.contains(words), "{words:?} is not in\n{seen}");
    }
    every_message_names_the_replay_once(&seen);
    every_answer_is_marked(&mut demo).await;
    demo.stop().await;
}

/// Each message names the replay in its source line, which is short, and nowhere else.
fn every_message_names_the_replay_once(seen: &str) {
    for message in seen.lines() {
        let sources: Vec<_> = message.split(" | ").filter(|line| line.starts_with("Source:")).collect();
        assert_eq!(sources, ["Source: replay of recorded traffic"], "{message}");
        assert_eq!(message.to_lowercase().matches("replay").count(), 1, "{message}");
    }
}

/// That this is a replay is said where data appears: on the terminal, in readings, in every answer.
async fn every_answer_is_marked(demo: &mut Process) {
    let base = demo.says("export AIR=").await;
    let client = client(Path::new(&demo.says("export CA=").await)).await;
    assert!(demo.out().starts_with("This is a replay of recorded traffic"), "{}", demo.out());
    for path in
        ["readings/LFPG?metric=live", "flights/KSFO", "flights/average/KSFO", "interests/sam@flightbell.example"]
    {
        let answer = client.get(format!("{base}/data-collector/{path}")).send().await.expect("answered");
        assert_eq!(answer.status(), 200, "{path}");
        let source = answer.headers().get("x-data-source").and_then(|source| source.to_str().ok());
        assert!(source.is_some_and(|source| source.starts_with("replay of recorded traffic")), "{path}: {source:?}");
        let readings: serde_json::Value = answer.json().await.expect("JSON");
        let says = readings[0]["source"].as_str().unwrap_or_default();
        assert_eq!(says.starts_with("replay of recorded traffic"), path.starts_with("readings"), "{path}: {says}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_clears_away_what_a_killed_one_left() {
    let temporary = folder();
    let environment = [
        ("XDG_CACHE_HOME", discovery().cache_home.display().to_string()),
        ("TMPDIR", temporary.path().display().to_string()),
    ];
    let arguments = ["demo", "--listen", "127.0.0.1:0", "--page", "127.0.0.1:0"];
    let folders = || -> Vec<PathBuf> {
        let entries = temporary.path().read_dir().expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let mut killed = program::start("flightbell", &arguments, &environment).await;
    killed.says("open ").await;
    killed.kill().await;
    let left = folders().pop().expect("its folder is left");
    assert_eq!(orphans::running(&left.join("data")).await.expect("looked").len(), 2);
    // As if it had been some time ago: a young folder may belong to a demo that is being started.
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::open(&left).and_then(|folder| folder.set_modified(hour_ago)).expect("made older");

    let mut next = program::start("flightbell", &arguments, &environment).await;
    next.says("open ").await;
    assert!(!left.exists(), "{}", next.log());
    assert!(orphans::running(&left.join("data")).await.expect("looked").is_empty());
    next.stop().await;
    assert_eq!(folders(), Vec::<PathBuf>::new(), "a demo that ends takes its folder along");
}
