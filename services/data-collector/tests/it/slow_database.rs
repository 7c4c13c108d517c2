//! A database that answers late, while people ask.

use std::time::Duration;

use runtime::clock::Clock;
use testkit::{Process, Proxy};
use tokio::task::JoinSet;

use crate::support::{TestEnv, wait_for};

/// Each way. There and back takes more than a second, from which on sqlx calls a statement slow.
const DELAY: Duration = Duration::from_millis(600);

/// Callers at once, each with so many questions: more than there are connections, so that some wait for one.
const CALLERS: usize = 20;
const QUESTIONS: usize = 3;

/// What sqlx says of a slow statement, and of a connection that was long in coming.
const COMPLAINTS: [&str; 3] = ["slow statement", "slow threshold", "SELECT "];

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_does_not_fill_the_log_with_a_line_for_each_statement() {
    let env = TestEnv::on(Clock::system()).await;
    let (wire, http) = (Proxy::to_postgres().await, testkit::free_addr());
    let mut vars = env.vars();
    vars.insert("DATABASE_URL".to_owned(), env.database.url_at(wire.addr()));
    vars.insert("HTTP_ADDR".to_owned(), http.to_string());
    let process = Process::start(env!("CARGO_BIN_EXE_data-collector"), &[], vars);
    let client = testkit::http_client();
    let ready = async || client.get(format!("http://{http}/readyz")).send().await.ok().filter(|it| it.status() == 200);
    wait_for("the process to be ready", ready).await;
    let before = process.log().lines().count();

    wire.delay(DELAY);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let client = client.clone();
        callers.spawn(async move {
            for _ in 0..QUESTIONS {
                let answer = client.get(format!("http://{http}/readings/LFPG")).send().await.expect("answered");
                // There, or to be asked again.
                assert!([200, 503].contains(&answer.status().as_u16()), "{answer:?}");
            }
        });
    }
    while let Some(asked) = callers.join_next().await {
        asked.expect("each was answered");
    }
    wire.heal();
    let log = process.stop().await;
    let since: Vec<_> = log.lines().skip(before).collect();
    let complaints: Vec<_> =
        since.iter().filter(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint))).collect();
    assert!(complaints.is_empty(), "{} of {} lines are sqlx's: {complaints:#?}", complaints.len(), since.len());
    assert!(since.len() < CALLERS * QUESTIONS / 2, "a line for each question, or more: {since:#?}");
}
