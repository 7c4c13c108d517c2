use std::time::Duration;

use runtime::{ServiceRuntime, StoppedEarly, clock::Clock};
use secrecy::SecretString;
use sqlx::migrate::Migrator;
use testkit::wait_for;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

fn nobody_there() -> pg::Database {
    // A port that was free a moment ago, and on which no server listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
    let url = format!("postgres://somebody:hush@127.0.0.1:{port}/nothing");
    pg::Database::parse(&SecretString::from(url)).expect("a URL")
}

#[tokio::test]
async fn a_service_waits_for_its_database_and_says_so() {
    let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
    let (waiting, database) = (runtime.clone(), nobody_there());
    let mut connecting = JoinSet::new();
    connecting.spawn(async move { pg::connect(&waiting, &database, &Migrator::DEFAULT).await });
    let says_so = async || {
        let report = runtime.readiness.report().await;
        report.parts.iter().any(|part| {
            part.name == "postgres" && part.detail.as_deref().is_some_and(|why| why.contains("cannot be reached"))
        })
    };
    wait_for("readiness names postgres", Duration::from_secs(20), says_so).await;
    let report = serde_json::to_string(&runtime.readiness.report().await).expect("JSON");
    assert!(!report.contains("hush"), "{report}");
    runtime.tasks.stopping().cancel();
    let error = connecting.join_next().await.expect("a task").expect("no panic").expect_err("stopped first");
    assert!(error.is::<StoppedEarly>(), "{error:#}");
}

#[test]
fn a_url_that_is_none_is_refused_without_being_repeated() {
    for url in ["", "mysql://a:hush@b/c", "postgres:/hush", "postgres://[hush"] {
        let error = pg::Database::parse(&SecretString::from(url.to_owned())).err().expect("refused");
        assert!(!error.contains("hush"), "{error}");
    }
}
