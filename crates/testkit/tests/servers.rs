//! The helpers themselves, on the servers that they start.

#![cfg(test)]

use std::{
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use events::topics::TO_NOTIFIER;
use rustix::process::{Pid, Signal, kill_process};
use testkit::{Proxy, topic_io};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn two_tests_have_databases_of_their_own() {
    let (one, other) = (testkit::empty_database().await, testkit::empty_database().await);
    sqlx::raw_sql("CREATE TABLE mine ()").execute(&one.pool).await.expect("a table");
    sqlx::raw_sql("CREATE TABLE mine ()").execute(&other.pool).await.expect("a table");
    assert!(one.url.contains(&testkit::postgres_addr().to_string()), "{}", one.url);
}

#[tokio::test]
async fn a_record_is_read_back_as_it_was_written() {
    let bootstrap = testkit::kafka().await;
    let names = testkit::topics();
    testkit::make_topics(&bootstrap, &names, 3).await;
    let topic = names.topic(&TO_NOTIFIER);
    topic_io::produce(&bootstrap, &topic, Some(b"k"), Some(b"v"), &[("ce_type", b"x")]).await;
    topic_io::produce(&bootstrap, &topic, Some(b"k"), None, &[]).await;
    let records = topic_io::consume_all(&bootstrap, &topic).await;
    assert_eq!(records.len(), 2);
    assert_eq!((records[0].value.as_deref(), records[1].value.as_deref()), (Some(&b"v"[..]), None));
    assert_eq!(records[0].header("ce_type"), Some(&b"x"[..]));
    let found = topic_io::consume_until(&bootstrap, &topic, SOON, |records| records.len() == 2).await;
    assert_eq!(found, records);
}

#[tokio::test]
async fn a_cut_wire_breaks_connections_and_a_healed_one_takes_new_ones() {
    let database = testkit::empty_database().await;
    let proxy = Proxy::to(testkit::postgres_addr()).await;
    let url = database.url.replace(&testkit::postgres_addr().to_string(), &proxy.addr().to_string());
    let pool = sqlx::postgres::PgPoolOptions::new().acquire_timeout(Duration::from_millis(500)).connect_lazy(&url);
    let pool = pool.expect("a URL");
    let works = async || sqlx::query("SELECT 1").execute(&pool).await.is_ok();
    assert!(works().await);
    proxy.cut();
    testkit::wait_for("the cut to show", SOON, async || !works().await).await;
    proxy.heal();
    testkit::wait_for("the wire to be whole", SOON, works).await;
    proxy.freeze();
    let waited = tokio::time::timeout(Duration::from_millis(300), sqlx::query("SELECT 1").execute(&pool)).await;
    assert!(!waited.is_ok_and(|answer| answer.is_ok()), "nothing passes");
    proxy.heal();
    testkit::wait_for("the wire to be whole", SOON, works).await;
}

#[tokio::test]
async fn clients_of_a_broker_behind_a_proxy_stay_behind_it() {
    let proxy = Proxy::unconnected().await;
    let broker = testkit::kafka_behind(proxy.addr().port()).await;
    proxy.lead_to(broker.behind_proxy().expect("a second listener"));
    let (direct, through) = (broker.bootstrap.clone(), proxy.addr().to_string());
    let names = testkit::topics();
    testkit::make_topics(&through, &names, 1).await;
    let topic = names.topic(&TO_NOTIFIER);
    proxy.cut();
    let sent = async {
        topic_io::produce(&through, &topic, None, Some(b"late"), &[]).await;
    };
    let story = async {
        topic_io::produce(&direct, &topic, None, Some(b"early"), &[]).await;
        proxy.heal();
    };
    tokio::join!(sent, story);
    let values: Vec<_> =
        topic_io::consume_all(&direct, &topic).await.into_iter().filter_map(|found| found.value).collect();
    assert_eq!(values, [b"early".to_vec(), b"late".to_vec()]);
}

/// Lists the servers of folders that testkit makes, by what is in the table of processes.
fn servers_in(folder: &str) -> usize {
    let lines = std::fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(folder).then_some(())
    });
    lines.count()
}

#[tokio::test]
async fn the_runner_passes_the_addresses_and_the_exit_code_on_and_leaves_nothing() {
    let folder = tempfile::Builder::new().prefix("runner-").tempdir().expect("a folder");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(folder.path(), open).expect("opened");
    let runner = || {
        let mut runner = Command::new(env!("CARGO_BIN_EXE_with-servers"));
        runner.env("TMPDIR", folder.path());
        runner
    };
    let place = folder.path().to_string_lossy().into_owned();
    let is_empty = || std::fs::read_dir(folder.path()).expect("a folder").count() == 0;

    let script = r#"echo "$FLIGHTBELL_TEST_KAFKA $FLIGHTBELL_TEST_POSTGRES"; exit 7"#;
    let told = runner().args(["--", "sh", "-c", script]).output().expect("run");
    assert_eq!(told.status.code(), Some(7));
    let told = String::from_utf8(told.stdout).expect("text");
    assert!(told.split_whitespace().filter(|addr| addr.starts_with("127.0.0.1:")).count() == 2, "{told}");
    testkit::wait_for("the folder to go", SOON, async || is_empty()).await;

    // The command lasts as long as its input, which is ours.
    let lasting = || runner().args(["--", "cat"]).stdin(Stdio::piped()).spawn().expect("run");
    let mut asked = lasting();
    testkit::wait_for("the servers to run", SOON, async || servers_in(&place) >= 3).await;
    signal(&asked, Signal::TERM);
    assert_eq!(asked.wait().expect("ended").code(), Some(143));
    testkit::wait_for("the folder to go", SOON, async || is_empty() && servers_in(&place) == 0).await;

    // Killed, it cannot clean up; the watchdog does.
    let mut killed = lasting();
    testkit::wait_for("the servers to run", SOON, async || servers_in(&place) >= 3).await;
    signal(&killed, Signal::KILL);
    killed.wait().expect("ended");
    testkit::wait_for("the folder to go", SOON, async || is_empty() && servers_in(&place) == 0).await;
}

#[tokio::test]
async fn what_runs_on_a_folder_goes_with_it_and_a_stranger_with_a_pid_that_is_named_there_does_not() {
    let folder = testkit::Folder::watched().expect("a folder");
    let (path, data) = (folder.path().to_owned(), folder.path().join("some data"));
    std::fs::create_dir_all(data.join("logs")).expect("a folder");
    std::fs::write(data.join("lock"), "").expect("written");
    let mut holder = Command::new("tail").arg("-f").arg(data.join("lock")).stdout(Stdio::null()).spawn().expect("run");
    std::fs::write(data.join("lock"), format!("{}\n", holder.id())).expect("written");
    let mut stranger = Command::new("cat").stdin(Stdio::piped()).spawn().expect("run");
    std::fs::write(data.join("logs/kafka.pid"), format!("{}\n", stranger.id())).expect("written");
    drop(folder);
    testkit::wait_for("the folder to go", SOON, async || !path.exists()).await;
    assert_eq!(holder.wait().expect("ended").signal(), Some(Signal::KILL.as_raw()));
    assert!(stranger.try_wait().expect("looked").is_none(), "the stranger lives");
    stranger.kill().expect("ended");
    stranger.wait().expect("ended");
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("signalled");
}
