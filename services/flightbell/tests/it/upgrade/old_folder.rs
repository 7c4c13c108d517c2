//! A data directory as `flightbell up` of commit e8ccbb9 left it when the machine lost its power.
//!
//! The old program itself would have to be built for minutes. What it did is followed here from its sources, named beside
//! each step; [`LAYOUT`] fails the test when today's servers lay out their folders otherwise, since these would then no
//! longer be an old program's.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use chrono::{Datelike, TimeDelta, Utc};
use local_servers::{Durability, Kafka, KafkaOptions, Postgres, PostgresOptions};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

use super::dump::{DATABASES, Restored};
use crate::deployment::discovery;

/// What lay in a data directory, two levels deep (`crates/local-servers/src`: `data_dir.rs`, lines 29 to 138;
/// `postgres.rs`, lines 103 to 290; `kafka.rs`, lines 149 to 345; `log.rs`, lines 35 to 45).
const LAYOUT: [&str; 20] = [
    "addresses.json",
    "kafka",
    "kafka/data",
    "kafka/format.properties",
    "kafka/log4j2.properties",
    "kafka/server.properties",
    "kafka/tmp",
    "lock",
    "logs",
    "logs/kafka.log",
    "logs/kafka.pid",
    "logs/postgres.log",
    "logs/postgres.pid",
    "postgres",
    "postgres/data",
    "postgres/run",
    "tls",
    "tls/cert.pem",
    "tls/key.pem",
    "tls/self-signed.pem",
];

/// What a topic had unless `KAFKA_PARTITIONS` said otherwise, on a private Kafka too (`crates/stream/src/config.rs`,
/// line 19).
pub const PARTITIONS: usize = 12;

/// Makes the folder, with the dump in its servers.
pub async fn make(data: &Path) -> Restored {
    fs::DirBuilder::new().mode(0o711).create(data).expect("a data directory");
    // A process id that no process has by now.
    fs::write(data.join("lock"), "4194305\n").expect("a lock that no process holds");
    let postgres = Postgres::start(PostgresOptions::new(&discovery(), data, Durability::Durable));
    let kafka = Kafka::start(KafkaOptions::new(&discovery(), data, Durability::Durable));
    let (postgres, kafka) = tokio::join!(postgres, kafka);
    let (postgres, kafka) = (postgres.expect("a PostgreSQL"), kafka.expect("a Kafka"));
    for (name, _) in DATABASES {
        postgres.create_database(name).await.expect("a database");
    }
    let urls = DATABASES.map(|(name, _)| postgres.url(name));
    let restored = Restored::fill(&kafka.bootstrap(), urls.clone(), PARTITIONS).await;
    write_addresses(data, &kafka.bootstrap(), &urls);
    write_certificate(&data.join("tls"));
    tokio::join!(postgres.kill(), kafka.kill());
    assert_eq!(layout(data), LAYOUT.map(str::to_owned).into(), "an old program would have left another folder");
    restored
}

/// `crates/local-servers/src/addresses.rs`, lines 17 to 77.
fn write_addresses(data: &Path, kafka: &str, urls: &[String; 4]) {
    let databases: serde_json::Map<_, _> =
        DATABASES.iter().zip(urls).map(|((name, _), url)| ((*name).to_owned(), url.clone().into())).collect();
    let addresses = json!({"admin": "127.0.0.1:1", "kafka": kafka, "databases": databases});
    let file = data.join("addresses.json");
    fs::write(&file, serde_json::to_vec_pretty(&addresses).expect("JSON")).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("closed");
}

/// A certificate without key usages, and its key: `services/flightbell/src/gateway/certificate.rs`, lines 159 to
/// 184.
fn write_certificate(folder: &Path) {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names).expect("names");
    let date = |time: chrono::DateTime<Utc>| {
        let byte = |number: u32| u8::try_from(number).expect("small");
        rcgen::date_time_ymd(time.year(), byte(time.month()), byte(time.day()))
    };
    params.not_before = date(Utc::now() - TimeDelta::days(1));
    params.not_after = date(Utc::now() + TimeDelta::days(397));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Flightbell");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    fs::create_dir(folder).expect("a folder");
    for (name, text) in
        [("self-signed.pem", &certificate), ("key.pem", &key.serialize_pem()), ("cert.pem", &certificate)]
    {
        fs::write(folder.join(name), text).expect("written");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).expect("closed");
    }
}

fn layout(data: &Path) -> BTreeSet<String> {
    let names = |folder: &Path| -> Vec<_> {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.collect()
    };
    let folders = names(data);
    let below = folders.iter().filter(|path| path.is_dir()).flat_map(|folder| names(folder));
    let relative = |path: &Path| path.strip_prefix(data).expect("below it").display().to_string();
    folders.iter().cloned().chain(below).map(|path| relative(&path)).collect()
}
