//! What the README has people paste, pasted.

use std::path::Path;

use chrono::{Days, Utc};
use simulators::opensky::Direction;
use tokio::process::Command;

use crate::{
    deployment::{TestEnv, discovery, folder},
    program::{self, PATIENCE},
};

const README: &str = include_str!("../../../../README.md");

/// The settings and the `curl` commands of the README, each whole.
fn pasted() -> (String, Vec<String>) {
    let (_, section) = README.split_once("\n## The API, with curl\n").expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let code: Vec<&str> = section.split("```").skip(1).step_by(2).collect();
    let code = code.join("\n").replace("\\\n", "");
    let lines = |beginning: &'static str| code.lines().filter(move |line| line.starts_with(beginning));
    (lines("export ").collect::<Vec<_>>().join("\n"), lines("curl ").map(str::to_owned).collect())
}

/// The status and the body that a command ends with.
async fn run(settings: &str, command: &str, data_home: &Path) -> (String, String) {
    let shown = r#"curl() { command curl --silent --show-error --write-out '\n%{http_code}' "$@"; }"#;
    let runtime = Command::new("bash")
        .args(["-euc", &format!("{settings}\n{shown}\n{command}")])
        .env("XDG_DATA_HOME", data_home)
        .output();
    let ended = runtime.await.expect("bash runs");
    assert!(ended.status.success(), "{command}\n{}", String::from_utf8_lossy(&ended.stderr));
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let (body, status) = said.rsplit_once('\n').expect("a status");
    (status.to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_readme_has_people_paste_works_and_works_again() {
    let (env, home) = (TestEnv::new().await, folder());
    env.aircraft(3);
    let yesterday = Utc::now().date_naive() - Days::new(1);
    for (direction, count) in [(Direction::Arrival, 30), (Direction::Departure, 20)] {
        env.traffic.set_flight_count("KSFO", direction, yesterday, count);
        // Should midnight pass meanwhile.
        env.traffic.set_flight_count("KSFO", direction, yesterday + Days::new(1), count);
    }
    let mut environment = env.environment();
    environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
    environment.push(("XDG_DATA_HOME", home.path().display().to_string()));
    let mut up = program::start("flightbell", &["up", "--listen", "127.0.0.1:0"], &environment).await;
    let address = up.says("ready ").await;

    let (settings, commands) = pasted();
    assert!(commands.len() > 8, "only {commands:?} were found: the test looks in the wrong place");
    let settings = format!("{settings}\nexport AIR={address}");
    for round in 1..=2 {
        for command in &commands {
            if command.contains(" -X DELETE ") {
                // Each time a new user: 3 aircraft are below 5, and 50 flights below 400.
                env.texts(|texts| texts.len() >= 2 * round).await;
            }
            if command.contains(" -d ") || command.contains(" -X ") {
                let (status, body) = run(&settings, command, home.path()).await;
                assert!(status.starts_with('2'), "{command}\n{status} {body}\n{}", up.log());
                continue;
            }
            // "A few seconds later."
            testkit::wait_for(command, PATIENCE, async || {
                let (status, body) = run(&settings, command, home.path()).await;
                status == "200" && body != "[]"
            })
            .await;
        }
    }
    up.stop().await;
}
