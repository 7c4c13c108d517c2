//! PostgreSQL, started, killed, left over, found again.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use local_servers::{Durability, Error, Postgres, PostgresOptions, State, orphans};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use testkit::wait_for;

use crate::bed::{Bed, discovery, leave_running, signal};

const SOON: Duration = Duration::from_secs(40);

async fn start(data_dir: &Path) -> Postgres {
    start_as(data_dir, Durability::ForTests).await.expect("PostgreSQL")
}

async fn start_as(data_dir: &Path, durability: Durability) -> Result<Postgres, Error> {
    Postgres::start(PostgresOptions::new(&discovery(), data_dir, durability)).await
}

async fn write(url: &str, row: i32) {
    let mut client = PgConnection::connect(url).await.expect("connected");
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS kept (row int)").execute(&mut client).await.expect("a table");
    sqlx::query("INSERT INTO kept VALUES ($1)").bind(row).execute(&mut client).await.expect("a row");
    client.close().await.expect("closed");
}

async fn rows(url: &str) -> Result<Vec<i32>, sqlx::Error> {
    let mut client = PgConnection::connect(url).await?;
    sqlx::query_scalar("SELECT row FROM kept ORDER BY row").fetch_all(&mut client).await
}

async fn has_rows(url: &str, wanted: &[i32]) -> bool {
    rows(url).await.is_ok_and(|rows| rows == wanted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_outlives_a_clean_stop_a_kill_and_a_start_in_between() {
    let bed = Bed::new();
    let server = start_as(bed.path(), Durability::Durable).await.expect("PostgreSQL");
    server.create_database("notifier").await.expect("made");
    server.create_database("notifier").await.expect("made already");
    let url = server.url("notifier");
    write(&url, 1).await;
    server.stop().await;
    assert!(rows(&url).await.is_err(), "it is stopped");

    let server = start_as(bed.path(), Durability::Durable).await.expect("after a clean stop");
    assert_eq!(server.url("notifier"), url);
    write(&url, 2).await;
    server.kill().await;

    let server = start_as(bed.path(), Durability::Durable).await.expect("after a kill");
    assert_eq!(rows(&url).await.expect("rows"), [1, 2]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_comes_back_on_the_same_socket_with_its_data() {
    let bed = Bed::new();
    let server = start(bed.path()).await;
    let url = server.url("postgres");
    write(&url, 7).await;
    let (watch, pid) = (server.watch(), server.pid().expect("running"));
    signal(pid, Signal::KILL);
    let again = tokio::time::timeout(SOON, watch.restarted_from(pid)).await.expect("in time");
    assert!(again.is_some_and(|now| now != pid));
    wait_for("the row is there again", SOON, async || has_rows(&url, &[7]).await).await;
    server.stop().await;
    assert!(matches!(watch.state(), State::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_left_over_by_an_earlier_run_is_found_and_stopped_first() {
    let bed = Bed::new();
    let server = start(bed.path()).await;
    let url = server.url("postgres");
    write(&url, 1).await;
    server.stop().await;
    leave_running("postgres", bed.path());
    let found = orphans::running(bed.path()).await.expect("a list");
    assert!(matches!(found.as_slice(), [orphans::Orphan { server: "PostgreSQL", .. }]), "{found:?}");

    let next = start(bed.path()).await;
    assert!(next.pid().is_some_and(|now| now != found[0].pid));
    assert_eq!(rows(&url).await.expect("rows"), [1]);
    next.stop().await;
    assert_eq!(orphans::running(bed.path()).await.expect("a list"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pid_that_now_belongs_to_a_stranger_is_left_alone_and_holds_nothing_up() {
    let bed = Bed::new();
    let server = start(bed.path()).await;
    let url = server.url("postgres");
    write(&url, 1).await;
    let before = fs::read_to_string(bed.path().join("postgres/data/postmaster.pid")).expect("a pid file");
    server.kill().await;
    // The stranger runs as the same user, so that PostgreSQL itself would take it for a server.
    let mut stranger = stranger();
    let (_, rest) = before.split_once('\n').expect("lines");
    let file = bed.path().join("postgres/data/postmaster.pid");
    fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&file)
        .and_then(|mut file| write!(file, "{}\n{rest}", stranger.0.id()))
        .expect("written");

    let next = start(bed.path()).await;
    assert_eq!(rows(&url).await.expect("rows"), [1]);
    assert!(stranger.0.try_wait().expect("watched").is_none(), "the stranger lives");
    next.stop().await;
}

/// A process that ends with the test.
struct Stranger(std::process::Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("ended");
    }
}

fn stranger() -> Stranger {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sleep", "600"]);
        command
    } else {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    };
    Stranger(command.spawn().expect("a stranger"))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_deaths_within_a_minute_end_it_with_the_end_of_its_log() {
    let bed = Bed::new();
    let server = start(bed.path()).await;
    let watch = server.watch();
    let mut pid = server.pid().expect("running");
    for _ in 0..2 {
        signal(pid, Signal::KILL);
        pid = tokio::time::timeout(SOON, watch.restarted_from(pid)).await.expect("in time").expect("again");
    }
    signal(pid, Signal::KILL);
    let error = tokio::time::timeout(SOON, watch.failed()).await.expect("in time").to_string();
    assert!(error.contains("PostgreSQL died 3 times within a minute"), "{error}");
    assert!(error.contains("database system is ready to accept connections"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_path_gets_a_short_private_socket() {
    let bed = Bed::new();
    let deep =
        bed.path().join("a-folder-with-a-rather-long-name/and-another-one-inside-of-it/up-to-more-than-108-bytes");
    fs::create_dir_all(&deep).expect("folders");
    let server = start(&deep).await;
    let socket = server.socket_folder().to_owned();
    assert!(socket.starts_with("/tmp") && socket.as_os_str().len() < 60, "{}", socket.display());
    assert_eq!(fs::metadata(&socket).expect("there").permissions().mode() & 0o777, 0o700);
    write(&server.url("postgres"), 1).await;
    server.stop().await;
    assert!(!socket.exists(), "a clean stop leaves nothing outside the data directory");

    // Another user could have made the folder: one that others may enter is refused.
    fs::create_dir(&socket).expect("a folder");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o755)).expect("opened");
    let error = start_as(&deep, Durability::ForTests).await.expect_err("not private");
    assert!(matches!(error, Error::SocketFolderNotPrivate { .. }), "{error}");
    fs::remove_dir_all(&socket).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_with_a_client_can_still_be_stopped_in_order() {
    let bed = Bed::new();
    let server = start(bed.path()).await;
    let mut client = PgConnection::connect(&server.url("postgres")).await.expect("connected");
    client.ping().await.expect("an answer");
    let frozen = testkit::Frozen::freeze(server.pid().expect("running"));
    server.stop().await;
    assert_eq!(orphans::running(bed.path()).await.expect("a list"), []);
    let log = fs::read_to_string(bed.path().join("logs/postgres.log")).expect("a log");
    assert!(log.contains("database system is shut down"), "it was not killed: {log}");
    drop(frozen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_tells_the_end_of_the_log() {
    let bed = Bed::new();
    start(bed.path()).await.stop().await;
    let settings = bed.path().join("postgres/data/postgresql.conf");
    fs::write(&settings, "no_such_setting = on\n").expect("spoiled");
    let error = start_as(bed.path(), Durability::ForTests).await.expect_err("spoiled").to_string();
    assert!(error.contains("no_such_setting") && error.contains("postgres.log"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_lost_modes_and_owner_starts_with_its_data() {
    let (bed, copies) = (Bed::new(), Bed::new());
    let server = start(bed.path()).await;
    server.create_database("notifier").await.expect("made");
    write(&server.url("notifier"), 1).await;
    server.stop().await;
    let copy = copies.path().join("a copy of données");
    let script = "umask 0022; cp -r \"$0\" \"$1\"; chmod 0755 \"$1\" \"$1/postgres/data\"";
    let copied = Command::new("sh").arg("-c").arg(script).arg(bed.path()).arg(&copy).status().expect("cp runs");
    assert!(copied.success());
    let obstacles = local_servers::ownership::obstacles(&copy).expect("looked");
    let said = obstacles.iter().map(|obstacle| obstacle.says.as_str()).collect::<Vec<_>>().join("; ");
    assert!(said.contains("0755") && obstacles.iter().all(|obstacle| obstacle.command.is_none()), "{obstacles:?}");

    let server = start(&copy).await;
    assert_eq!(rows(&server.url("notifier")).await.expect("rows"), [1]);
    server.stop().await;
    assert_eq!(local_servers::ownership::obstacles(&copy).expect("looked"), []);
}
