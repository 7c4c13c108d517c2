//! `flightbell doctor`: what is wrong is named, with what mends it.

use std::{net::TcpListener, os::unix::fs::DirBuilderExt};

use axum::{Router, http::StatusCode};
use testkit::SmallDisk;

use crate::{
    commands::run,
    deployment::{discovery, folder},
    up::UpInstance,
};

/// A user's home, and no server outside that answers.
fn on_a_bare_machine(home: String) -> [(&'static str, String); 3] {
    let nobody = "http://127.0.0.1:1";
    [("HOME", home), ("OPEN_SKY_API_URL", nobody.to_owned()), ("TELEGRAM_API_URL", nobody.to_owned())]
}

#[tokio::test]
async fn doctor_names_what_is_missing_and_the_command_that_mends_it() {
    let parent = folder();
    let nowhere = parent.path().display().to_string();
    let mut environment = on_a_bare_machine(nowhere.clone()).to_vec();
    environment.push(("KAFKA_HOME", nowhere));
    let (code, said) = run(&["doctor"], &environment).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("WRONG  kafka") && said.contains("make deps"), "{said}");
    assert!(said.contains("TELEGRAM_BOT_TOKEN") && said.contains("@BotFather"), "{said}");
}

#[tokio::test]
async fn doctor_says_when_the_servers_user_cannot_reach_the_data_directory() {
    if !rustix::process::geteuid().is_root() {
        testkit::skip("only root runs the servers as another user");
        return;
    }
    let parent = folder();
    let closed = parent.path().join("closed");
    std::fs::DirBuilder::new().mode(0o700).create(&closed).expect("a folder");
    let data = closed.join("data").display().to_string();
    let (code, said) = run(&["doctor", "--data-dir", &data], &on_a_bare_machine("/nonexistent".to_owned())).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cannot pass through") && said.contains("chmod o+x"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_servers_that_a_killed_run_left_and_the_command_that_stops_them() {
    let mut instance = UpInstance::build().await;
    instance.kill().await;
    let data = instance.data.display().to_string();
    let mut environment = instance.env.environment();
    environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
    let (code, said) = run(&["doctor", "--data-dir", &data], &environment).await;
    assert_eq!(code, 0, "the next start mends it: {said}");
    for server in ["PostgreSQL", "Kafka"] {
        let named = format!("{server} (process {})", instance.pid_of(server).await);
        assert!(said.contains(&named), "{named} is not in\n{said}");
    }
    assert!(said.contains(&format!("mend: flightbell up --data-dir {data}")), "{said}");

    instance.start_again().await;
    instance.program.stop().await;
    let (_, said) = run(&["doctor", "--data-dir", &data], &environment).await;
    assert!(said.contains("no servers of a killed run"), "{said}");
}

#[tokio::test]
async fn doctor_says_that_the_port_is_taken_and_which_credentials_are_refused() {
    // Taken by us, or by another process already.
    let _taken = TcpListener::bind("127.0.0.1:8443");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let mut strict = tokio::task::JoinSet::new();
    strict.spawn(async move { axum::serve(listener, Router::new().fallback(async || StatusCode::UNAUTHORIZED)).await });
    let parent = folder();
    let environment = [
        ("HOME", parent.path().display().to_string()),
        ("OPEN_SKY_API_URL", url.clone()),
        ("OPEN_SKY_TOKEN_URL", format!("{url}/token")),
        ("OPEN_SKY_CLIENT_ID", "flightbell".to_owned()),
        ("OPEN_SKY_CLIENT_SECRET", "kept-to-ourselves".to_owned()),
        ("TELEGRAM_API_URL", url),
        ("TELEGRAM_BOT_TOKEN", "1:kept-to-ourselves".to_owned()),
    ];
    let (code, said) = run(&["doctor"], &environment).await;
    assert_eq!(code, 1, "{said}");
    let expected = [
        "port             127.0.0.1:8443 cannot be bound",
        "mend: flightbell up --listen 127.0.0.1:",
        "WRONG  opensky          the credentials are refused (401",
        "mend: make a new API client",
        "WRONG  telegram         the bot token is refused",
        "mend: ask @BotFather",
    ];
    for words in expected {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    assert!(!said.contains("kept-to-ourselves"), "{said}");
}

#[tokio::test]
async fn doctor_says_that_the_disk_is_too_full() {
    let parent = folder();
    let Some(disk) = SmallDisk::mount(&parent.path().join("disk"), "64m") else { return };
    let data = disk.path().join("data").display().to_string();
    let (code, said) = run(&["doctor", "--data-dir", &data], &on_a_bare_machine("/nonexistent".to_owned())).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("WRONG  disk") && said.contains("64 MiB are free"), "{said}");
    assert!(said.contains("mend: make room there, or choose another --data-dir"), "{said}");
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_ends_the_start_and_doctor_names_it_and_asks_nobody() {
    let parent = folder();
    let data = parent.path().join("data").display().to_string();
    let environment = [
        ("HOME", parent.path().display().to_string()),
        ("TELEGRAM_BOT_TOKEN", "1:a".to_owned()),
        ("https_proxy", "ftp://ada:hush@proxy.test".to_owned()),
    ];
    let (code, said) = run(&["up", "--data-dir", &data], &environment).await;
    assert!(code == 2 && said.contains("https_proxy=\"ftp://***@proxy.test\""), "{code} {said}");
    assert_eq!(said.matches("https_proxy").count(), 1, "it is told once: {said}");
    let (code, said) = run(&["doctor", "--data-dir", &data], &environment).await;
    assert!(code == 1 && said.contains("https_proxy=") && said.contains("not asked"), "{code} {said}");
    let asked = said.contains("  opensky  ") || said.contains("  telegram  ");
    assert!(!said.contains("hush") && !asked, "{said}");
}
