//! Servers whose disk is full, on a small file system of the test's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use local_servers::{Durability, Kafka, KafkaOptions, Postgres, PostgresOptions, free_bytes};
use sqlx::{Connection, PgConnection};

use crate::{
    bed::{Bed, places, wait_for},
    kafka::{make_topic, try_produce, values},
};

const SOON: Duration = Duration::from_secs(60);

/// A file system in memory, mounted until this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with the reason said, where mounting is not allowed.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("a folder");
        let options = format!("size={size},mode=0711");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            other => {
                eprintln!("skipped: a small disk cannot be mounted here ({other:?})");
                None
            }
        }
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status().expect("mount");
        assert!(status.success());
    }

    /// Leaves no more than `room` bytes.
    fn fill(&self, room: u64) -> PathBuf {
        let (file, free) = (self.0.join("filler"), free_bytes(&self.0).expect("an answer"));
        let length = usize::try_from(free.saturating_sub(room)).expect("small");
        fs::write(&file, vec![0; length]).expect("filled");
        assert!(free_bytes(&self.0).expect("an answer") <= room + 4096);
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that the failed test left may still be there.
        let status = Command::new("umount").arg("-l").arg(&self.0).status().expect("umount");
        assert!(status.success() || std::thread::panicking());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_rows_and_with_room_again_every_acknowledged_one_is_there() {
    let bed = Bed::new();
    let Some(disk) = SmallDisk::mount(&bed.path().join("disk"), "160m") else { return };
    let server = Postgres::start(PostgresOptions::new(&places(), &disk.0, Durability::Durable)).await;
    let server = server.expect("PostgreSQL");
    let url = server.url("postgres");
    let mut client = PgConnection::connect(&url).await.expect("connected");
    sqlx::raw_sql("CREATE TABLE kept (row int, filler text)").execute(&mut client).await.expect("a table");
    let filler = disk.fill(512 * 1024);
    let mut acknowledged = 0i64;
    let refusal = loop {
        let row = sqlx::query("INSERT INTO kept VALUES ($1, repeat(md5($1::text), 1000))").bind(acknowledged);
        match row.execute(&mut client).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1_000_000, "the disk never fills");
    };
    assert!(acknowledged > 0, "{refusal}");
    fs::remove_file(filler).expect("room");
    let counted = async || -> Result<i64, sqlx::Error> {
        let mut client = PgConnection::connect(&url).await?;
        sqlx::query_scalar("SELECT count(*) FROM kept").fetch_one(&mut client).await
    };
    // A full log of changes ends the server; it is started again like one that was killed.
    wait_for("every row to be there", SOON, || async { counted().await.is_ok_and(|count| count >= acknowledged) })
        .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_a_full_disk_ended_has_every_acknowledged_record_once_there_is_room() {
    let bed = Bed::new();
    let Some(disk) = SmallDisk::mount(&bed.path().join("disk"), "80m") else { return };
    let options = KafkaOptions::new(&places(), &disk.0, Durability::Durable);
    let server = Kafka::start(options.clone()).await.expect("Kafka");
    let bootstrap = server.bootstrap();
    make_topic(&bootstrap, 1).await;
    disk.fill(1024 * 1024);
    let mut acknowledged = Vec::new();
    while try_produce(&bootstrap, u32::try_from(acknowledged.len()).expect("few"), 100_000).await {
        acknowledged.push(u32::try_from(acknowledged.len()).expect("few"));
        assert!(acknowledged.len() < 10_000, "the disk never fills");
    }
    let error = tokio::time::timeout(SOON, server.watch().failed()).await.expect("it dies again and again");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    server.stop().await;

    disk.resize("200m");
    let server = Kafka::start(options).await.expect("with room");
    let found = values(&server.bootstrap()).await;
    assert_eq!(found[..acknowledged.len()], acknowledged);
    server.stop().await;
}
