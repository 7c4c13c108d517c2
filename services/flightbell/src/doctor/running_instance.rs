use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use events::topics::Namespace;
use kafka::KafkaConfig;
use pg::Database;
use runtime::config::{Reader, Vars};
use secrecy::SecretString;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use super::finding::Finding;
use crate::{running_instance::RunningInstance, services::ServiceList, settings::ExternalServers};

/// How long one dependency may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// A part of `/readyz` that is up again within this time is no finding: health spreads every 2 s.
const SETTLING: Duration = Duration::from_secs(5);
/// How long to wait before `/readyz` is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What runs already: a running `up`, and the servers that the environment names.
/// `holder` holds the data directory; it is `running` once it has come so far as to say where its parts are.
pub(super) async fn check(
    services: ServiceList,
    external: &ExternalServers,
    holder: Option<&str>,
    running: Option<&RunningInstance>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match running {
        None if let Some(pid) = holder => {
            let says = format!("starts or stops, as process {pid}");
            findings.push(Finding::note("flightbell up", says, "wait a moment, then: flightbell doctor"));
        }
        None => findings.push(Finding::note("flightbell up", "does not run", "flightbell up")),
        Some(running) => {
            findings.push(Finding::fine("flightbell up", format!("runs as process {}", running.pid)));
            findings.extend(readiness(running.admin()).await);
        }
    }
    let key = |name: &str| services.iter().find(|spec| spec.name == name).and_then(|spec| spec.database_key());
    let databases: Vec<(String, SecretString)> = match (&external.databases, running) {
        (Some(external), _) => external.iter().filter_map(|(name, url)| Some((key(name)?, url.clone()))).collect(),
        (None, Some(running)) => running.databases().map(|(name, url)| (name.to_owned(), url.into())).collect(),
        (None, None) => Vec::new(),
    };
    if databases.is_empty() && running.is_some() {
        findings.push(named_elsewhere(services));
    }
    for (name, url) in databases {
        findings.push(database(&name, &url).await);
    }
    findings
}

/// The addresses of databases that the operator named hold passwords, so a running `up` tells them to
/// no other process.
fn named_elsewhere(services: ServiceList) -> Finding {
    let keys: Vec<_> = services.iter().filter_map(|spec| spec.database_key()).collect();
    let says = "not looked at: the environment of the running flightbell up names them, and this one does not";
    Finding::note("database", says, format!("set {} here as there", keys.join(", ")))
}

/// The parts that `/readyz` calls down, also when they are asked again: after a start, services learn one after
/// another that their neighbours answer.
async fn readiness(admin: &str) -> Vec<Finding> {
    let Ok(addr) = admin.parse::<SocketAddr>() else {
        return vec![Finding::wrong("readiness", format!("{admin:?} is no address"), "start flightbell up again")];
    };
    let asked = async {
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
        let until = Instant::now() + SETTLING;
        loop {
            let report = client.get(format!("http://{addr}/readyz")).send().await?.json::<Value>().await?;
            let is_up = parts(&report).all(|(_, part)| part["up"] == true);
            if is_up || Instant::now() >= until {
                return Ok::<_, reqwest::Error>(report);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    let report = match asked.await {
        Ok(report) => report,
        Err(error) => return vec![Finding::wrong("readiness", error, "look at its log; start flightbell up again")],
    };
    let mut findings = Vec::new();
    for (name, part) in parts(&report) {
        let says = format!("{name}: {} {}", text(part, "name"), text(part, "detail"));
        match part["up"].as_bool() {
            Some(true) if part["detail"].is_null() => {}
            Some(true) => findings.push(Finding::fine("readiness", says)),
            _ => findings.push(Finding::wrong("readiness", says, "it is tried again by itself; see the detail")),
        }
    }
    if report["status"] == "ready" {
        findings.push(Finding::fine("readiness", "every service is ready"));
    }
    findings
}

/// Each part of `report` with its service's name.
fn parts(report: &Value) -> impl Iterator<Item = (&str, &Value)> {
    report["services"].as_array().into_iter().flatten().flat_map(|service| {
        let name = service["service"].as_str().unwrap_or_default();
        service["parts"].as_array().into_iter().flatten().map(move |part| (name, part))
    })
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

async fn database(name: &str, url: &SecretString) -> Finding {
    let database = match Database::parse(url) {
        Ok(database) => database,
        Err(error) => return Finding::wrong("database", format!("{name}: {error}"), format!("correct {name}")),
    };
    let asked = async {
        let mut connection = PgConnection::connect_with(&database.options("doctor")).await?;
        connection.ping().await?;
        connection.close().await
    };
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(())) => Finding::fine("database", format!("{name} answers")),
        Ok(Err(error)) => {
            Finding::wrong("database", format!("{name}: {error}"), "start PostgreSQL, or correct the URL")
        }
        Err(_) => {
            Finding::wrong("database", format!("{name}: no answer within 5 s"), "start PostgreSQL, or correct the URL")
        }
    }
}

/// Kafka as the environment or a running `up` names it.
pub(super) fn kafka(
    external: &ExternalServers,
    running: Option<&RunningInstance>,
    vars: &dyn Vars,
) -> Option<KafkaConfig> {
    if external.kafka.is_some() {
        return KafkaConfig::read(&mut Reader::new(vars));
    }
    running.map(|running| KafkaConfig::plain(running.kafka()))
}

/// Whether it answers, and which topics of the table there are, with their dead letters and retries.
pub(super) async fn kafka_answers(kafka: &KafkaConfig, topics: &Namespace) -> Finding {
    match kafka::topics::absent(kafka, topics).await {
        Ok(absent) if absent.is_empty() => {
            let names: Vec<_> = topics.rows().iter().map(|row| topics.topic(row)).collect();
            Finding::fine(
                "kafka",
                format!("{} answers, and our topics are there: {}", kafka.bootstrap, names.join(", ")),
            )
        }
        // The services create them when they start.
        Ok(absent) => Finding::fine(
            "kafka",
            format!("{} answers; topics that do not exist yet: {}", kafka.bootstrap, absent.join(", ")),
        ),
        Err(error) => Finding::wrong(
            "kafka",
            format!("{} does not answer: {error:#}", kafka.bootstrap),
            "start Kafka, or correct KAFKA_BROKER_URL",
        ),
    }
}
