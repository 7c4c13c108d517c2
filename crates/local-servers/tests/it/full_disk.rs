//! Servers whose disk is full, on a small file system of the test's own.

use std::{fs, time::Duration};

use local_servers::{Durability, Kafka, KafkaOptions, Postgres, PostgresOptions, State};
use sqlx::{Connection, PgConnection};
use testkit::{SmallDisk, wait_for};

use crate::{
    bed::{Bed, discovery},
    kafka::{make_topic, try_produce, values},
};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_rows_and_with_room_again_every_acknowledged_one_is_there() {
    let bed = Bed::new();
    let Some(disk) = SmallDisk::mount(&bed.path().join("disk"), "160m") else { return };
    let server = Postgres::start(PostgresOptions::new(&discovery(), disk.path(), Durability::Durable)).await;
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
    wait_for("every row to be there", SOON, async || counted().await.is_ok_and(|count| count >= acknowledged)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_a_full_disk_ended_has_every_acknowledged_record_once_there_is_room() {
    let bed = Bed::new();
    let Some(disk) = SmallDisk::mount(&bed.path().join("disk"), "80m") else { return };
    let options = KafkaOptions::new(&discovery(), disk.path(), Durability::Durable);
    let server = Kafka::start(options).await.expect("Kafka");
    let bootstrap = server.bootstrap();
    make_topic(&bootstrap, 1).await;
    disk.fill(1024 * 1024);
    let mut acknowledged = Vec::new();
    while try_produce(&bootstrap, u32::try_from(acknowledged.len()).expect("few"), 100_000).await {
        acknowledged.push(u32::try_from(acknowledged.len()).expect("few"));
        assert!(acknowledged.len() < 10_000, "the disk never fills");
    }
    wait_for("it to wait for room", SOON, async || matches!(server.watch().state(), State::Restarting)).await;

    disk.resize("200m");
    wait_for("it to run again", SOON, async || server.pid().is_some()).await;
    let found = values(&bootstrap).await;
    assert_eq!(found[..acknowledged.len()], acknowledged);
    server.stop().await;
}
