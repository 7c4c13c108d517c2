//! What is missing is said, with the way to mend it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use local_servers::{Discovery, Durability, Error, Kafka, KafkaOptions, Postgres, PostgresOptions};

use crate::bed::{Bed, discovery};

fn nowhere(bed: &Bed) -> Discovery {
    let empty = bed.path().join("empty");
    fs::create_dir_all(&empty).expect("a folder");
    Discovery { usual_postgres: vec![], ..Discovery::new(empty.clone().into(), None, None, empty) }
}

fn program(folder: &Path, name: &str, script: &str) {
    fs::create_dir_all(folder).expect("a folder");
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
}

async fn postgres_error(discovery: &Discovery, bed: &Bed) -> Error {
    let options = PostgresOptions::new(discovery, &bed.path().join("data"), Durability::ForTests);
    Postgres::start(options).await.expect_err("something is missing")
}

async fn kafka_error(discovery: &Discovery, bed: &Bed) -> Error {
    let options = KafkaOptions::new(discovery, &bed.path().join("data"), Durability::ForTests);
    Kafka::start(options).await.expect_err("something is missing")
}

#[tokio::test]
async fn without_postgresql_the_error_names_the_package() {
    let bed = Bed::new();
    let error = postgres_error(&nowhere(&bed), &bed).await;
    assert!(matches!(error, Error::NoPostgres), "{error}");
    assert!(error.to_string().contains("make deps"), "{error}");
}

#[tokio::test]
async fn a_cluster_of_another_version_is_not_touched_and_both_versions_are_named() {
    let bed = Bed::new();
    let data = bed.path().join("data/postgres/data");
    fs::create_dir_all(&data).expect("a folder");
    fs::write(data.join("PG_VERSION"), "9\n").expect("a version");
    let error = postgres_error(&discovery(), &bed).await;
    let Error::OtherPostgres { cluster, found, .. } = &error else { panic!("{error}") };
    assert_eq!(cluster, "9");
    assert!(!found.is_empty() && error.to_string().contains("postgresql-9"), "{error}");
    assert_eq!(fs::read_dir(&data).expect("a folder").count(), 1);
}

#[tokio::test]
async fn the_version_that_made_the_cluster_is_taken_though_a_newer_one_comes_first() {
    let bed = Bed::new();
    let (newer, older) = (bed.path().join("newer"), bed.path().join("older"));
    for (folder, version) in [(&newer, "18.1"), (&older, "16.4")] {
        program(folder, "postgres", &format!("echo 'postgres (PostgreSQL) {version}'"));
        program(folder, "initdb", "exit 1");
        program(folder, "createdb", "exit 1");
    }
    let mut discovery = nowhere(&bed);
    discovery.usual_postgres = vec![newer.clone(), older.clone()];
    let cluster = bed.path().join("cluster");
    fs::create_dir_all(&cluster).expect("a folder");
    assert_eq!(discovery.postgres(Some(&cluster)).await.expect("programs").folder, newer);
    fs::write(cluster.join("PG_VERSION"), "16\n").expect("a version");
    assert_eq!(discovery.postgres(Some(&cluster)).await.expect("programs").folder, older);
}

#[tokio::test]
async fn without_java_the_error_names_the_package() {
    let bed = Bed::new();
    let error = kafka_error(&nowhere(&bed), &bed).await;
    assert!(matches!(error, Error::NoJava), "{error}");
    assert!(error.to_string().contains("openjdk-17"), "{error}");
}

#[tokio::test]
async fn a_java_that_is_too_old_is_named_with_its_version() {
    let bed = Bed::new();
    let home = bed.path().join("jdk-11");
    program(&home.join("bin"), "java", r#"echo 'openjdk version "11.0.22" 2024-01-16' >&2"#);
    let old = Discovery { java_home: Some(home.clone()), ..discovery() };
    let error = kafka_error(&old, &bed).await;
    assert!(matches!(error, Error::OldJava { version: 11, .. }), "{error}");
    assert!(error.to_string().contains(&home.display().to_string()), "{error}");

    // One that is not there is not silently replaced by another.
    let wrong = Discovery { java_home: Some(bed.path().join("nowhere")), ..discovery() };
    let error = kafka_error(&wrong, &bed).await;
    assert!(matches!(error, Error::NoJavaHome { .. }) && error.to_string().contains("unset it"), "{error}");

    // Where the user chose no Java, an old one in front of a good one does not matter.
    let mut path = home.join("bin").into_os_string();
    path.push(":");
    path.push(&discovery().path);
    let found = Discovery { path, java_home: None, ..discovery() }.java().await.expect("a Java");
    assert!(!found.program.starts_with(&home));
}

#[tokio::test]
async fn without_jars_the_error_names_the_folder_and_the_command() {
    let bed = Bed::new();
    let jarless = Discovery { kafka_home: None, cache_home: bed.path().join("cache"), ..discovery() };
    let error = kafka_error(&jarless, &bed).await.to_string();
    assert!(error.contains("make deps") && error.contains("cache/flightbell/kafka-"), "{error}");

    let half = bed.path().join("half/libs");
    fs::create_dir_all(&half).expect("a folder");
    fs::write(half.join("kafka_2.13-4.3.1.jar"), "").expect("a jar");
    let interrupted = Discovery { kafka_home: Some(bed.path().join("half")), ..discovery() };
    assert!(matches!(kafka_error(&interrupted, &bed).await, Error::NoKafka { .. }));
}

#[tokio::test]
async fn a_jar_that_is_cut_short_is_named() {
    let bed = Bed::new();
    let (whole, cut) = (discovery().kafka().expect("jars").home.join("libs"), bed.path().join("kafka/libs"));
    fs::create_dir_all(&cut).expect("a folder");
    for entry in fs::read_dir(whole).expect("jars").map(|entry| entry.expect("an entry")) {
        let copy = cut.join(entry.file_name());
        if entry.file_name().to_string_lossy().starts_with("kafka-server-4") {
            let bytes = fs::read(entry.path()).expect("a jar");
            fs::write(copy, &bytes[..bytes.len() / 2]).expect("half a jar");
        } else {
            std::os::unix::fs::symlink(entry.path(), copy).expect("a link");
        }
    }
    let discovery = Discovery { kafka_home: Some(bed.path().join("kafka")), ..discovery() };
    let error = kafka_error(&discovery, &bed).await;
    assert!(matches!(&error, Error::CutJar { jar, .. } if jar.starts_with(&cut)), "{error}");
    assert!(error.to_string().contains("make deps"), "{error}");
}

#[tokio::test]
async fn a_kafka_before_version_4_is_refused() {
    let bed = Bed::new();
    let libs = bed.path().join("kafka/libs");
    fs::create_dir_all(&libs).expect("a folder");
    fs::write(libs.join("kafka_2.13-3.9.1.jar"), "").expect("a jar");
    let old = Discovery { kafka_home: Some(bed.path().join("kafka")), ..discovery() };
    let error = kafka_error(&old, &bed).await;
    assert!(matches!(&error, Error::OldKafka { version, .. } if version == "3.9.1"), "{error}");
}

#[tokio::test]
async fn a_data_directory_behind_a_closed_folder_is_named_when_root_starts_the_servers() {
    let bed = Bed::new();
    if !rustix::process::geteuid().is_root() {
        testkit::skip("only root runs the servers as another user");
        return;
    }
    let closed = bed.path().join("closed");
    fs::create_dir_all(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("closed");
    let options = PostgresOptions::new(&discovery(), &closed.join("data"), Durability::ForTests);
    let error = Postgres::start(options).await.expect_err("unreachable");
    assert!(matches!(&error, Error::Unreachable { folder, .. } if *folder == closed), "{error}");
}
