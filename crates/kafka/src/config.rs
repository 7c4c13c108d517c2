//! Where Kafka is, and how our clients behave towards it.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use runtime::config::{Reader, without_password};
use secrecy::{ExposeSecret, SecretString};

const BROKER_URL: &str = "KAFKA_BROKER_URL";
const PARTITIONS: &str = "KAFKA_PARTITIONS";
const REPLICATION: &str = "KAFKA_REPLICATION";
const SECURITY_PROTOCOL: &str = "KAFKA_SECURITY_PROTOCOL";
const SASL_MECHANISM: &str = "KAFKA_SASL_MECHANISM";
const SASL_USERNAME: &str = "KAFKA_SASL_USERNAME";
const SASL_PASSWORD: &str = "KAFKA_SASL_PASSWORD";
const CA_FILE: &str = "KAFKA_CA_FILE";
const DEAD_LETTER_RUN_LIMIT: &str = "DEAD_LETTER_RUN_LIMIT";

const DEFAULT_PARTITIONS: u16 = 12;
const DEFAULT_RUN_LIMIT: u32 = 1000;

/// The largest record our producers send, in bytes. A broker takes 1 MiB by default; a dead letter
/// is such a record with a few headers more, so its topic is made to take this.
pub(crate) const LARGEST_RECORD: u32 = 2 * 1024 * 1024;

/// The contract's session of a group's member.
const SESSION: Duration = Duration::from_secs(10);

/// What a producer is for, which decides how long a message waits for company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A user waits for the message: it leaves after 1 ms, with whatever else goes to its partition, since requests are
    /// what a broker is slow at (about 3 ms a hop).
    Latency,
    /// Many messages at once: they leave together after at most 5 ms.
    Throughput,
}

/// Settings of every Kafka client of a service. Secrets do not show in its `Debug`.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// Bootstrap servers, `host:port` with commas between.
    pub bootstrap: String,
    /// Partitions of a topic that we create.
    pub partitions: u16,
    /// Replicas of a topic that we create.
    pub replication: u16,
    /// How many records in a row may become dead letters before the operator is asked.
    pub dead_letter_run_limit: NonZeroU32,
    security: Security,
    overrides: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default)]
struct Security {
    protocol: Option<String>,
    mechanism: Option<String>,
    username: Option<String>,
    password: Option<SecretString>,
    ca_file: Option<PathBuf>,
}

impl KafkaConfig {
    /// Clients of the brokers at `bootstrap`, in plain text, with the defaults of the contract.
    #[must_use]
    pub fn plain(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            partitions: DEFAULT_PARTITIONS,
            replication: 1,
            dead_letter_run_limit: NonZeroU32::new(DEFAULT_RUN_LIMIT).unwrap_or(NonZeroU32::MIN),
            security: Security::default(),
            overrides: Vec::new(),
        }
    }

    /// Reads the contract's keys; `None` when the address is missing or wrong, which the reader notes.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let bootstrap = reader.required::<String>(BROKER_URL, "Kafka's bootstrap servers, such as localhost:9092");
        let partitions = small(reader.number(PARTITIONS, DEFAULT_PARTITIONS.into(), 1, 10_000));
        let replication = small(reader.number(REPLICATION, 1, 1, 100));
        let run_limit: NonZeroU32 = reader.or(DEAD_LETTER_RUN_LIMIT, NonZeroU32::new(DEFAULT_RUN_LIMIT)?);
        let security = Security::read(reader);
        let bootstrap = bootstrap.filter(|servers| is_bootstrap(reader, servers))?;
        let plain = Self::plain(bootstrap);
        Some(Self { partitions, replication, dead_letter_run_limit: run_limit, security, ..plain })
    }

    /// The same with one setting of the client library (librdkafka's `CONFIGURATION.md`) of one's own
    /// choice, which wins over ours. For tests that need short sessions.
    #[must_use]
    pub fn with(mut self, setting: &str, value: &str) -> Self {
        self.overrides.push((setting.to_owned(), value.to_owned()));
        self
    }

    /// What all clients share.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", "flightbell")
            // Delivery again within 1 s of a cut's end instead of 3 s and more.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "500")
            .set("socket.keepalive.enable", "true")
            // A frozen broker is noticed within its consumers' session.
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "5000")
            // A broker that closes an idle connection is no problem.
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        self.security.apply(&mut client);
        client
    }

    /// A consumer of `group`, whose offsets move only when they are stored.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("session.timeout.ms", SESSION.as_millis().to_string())
            .set("heartbeat.interval.ms", "3000")
            // A rebalance then stops only the partitions that move: what a worker keeps in memory
            // for the others, and what is paused, stays.
            .set("partition.assignment.strategy", "cooperative-sticky")
            // The default of 1000 costs two thirds of the throughput.
            .set("fetch.queue.backoff.ms", "5")
            // What is read ahead, in KiB and bytes. The latter are bytes on the wire, which become
            // five to twenty times as many in memory; a record larger than this still comes through.
            .set("queued.max.messages.kbytes", "1024")
            .set("fetch.message.max.bytes", "32768")
            .set("fetch.max.bytes", "1048576")
            .set("statistics.interval.ms", "5000");
        self.finish(client)
    }

    /// How long a member of a group may be silent before the others share its partitions.
    pub(crate) fn session(&self) -> Duration {
        let own = self.overrides.iter().rev().find(|(setting, _)| setting == "session.timeout.ms");
        own.and_then(|(_, millis)| millis.parse().ok()).map_or(SESSION, Duration::from_millis)
    }

    /// A client that only asks. It says when a connection is closed, since that is all there is to
    /// hear from a port that speaks another protocol.
    pub(crate) fn asker(&self) -> ClientConfig {
        let mut client = self.client();
        client.set("log.connection.close", "true");
        self.finish(client)
    }

    /// A reader of a topic that belongs to no group.
    pub(crate) fn reader(&self) -> ClientConfig {
        let mut client = self.asker();
        client
            // The library wants a name even where nothing is ever committed under it.
            .set("group.id", "flightbell-reader")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.max.messages.kbytes", "4096")
            .set("enable.partition.eof", "true");
        self.finish(client)
    }

    /// A reader from now on. It names `group`, since Kafka may let us name no other, but
    /// neither joins it nor commits anything.
    pub(crate) fn tail(&self, group: &str) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            // What is written comes at once; an idle topic costs a question every 5 s.
            .set("fetch.wait.max.ms", "5000")
            .set("queued.max.messages.kbytes", "1024")
            .set("fetch.message.max.bytes", "32768");
        self.finish(client)
    }

    /// A producer whose acknowledgement means: kept by every replica in sync, once, in order.
    pub(crate) fn producer(&self, profile: Profile) -> ClientConfig {
        let mut client = self.client();
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "8000")
            .set("request.timeout.ms", "5000")
            .set("compression.type", "lz4")
            .set("linger.ms", if profile == Profile::Latency { "1" } else { "5" })
            // Java's way, so that any other producer sends a key to the same partition.
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", LARGEST_RECORD.to_string())
            // What waits to be sent: enough for a few pages, and bounded.
            .set("queue.buffering.max.messages", "10000")
            .set("queue.buffering.max.kbytes", "8192");
        self.finish(client)
    }

    pub(crate) fn finish(&self, mut client: ClientConfig) -> ClientConfig {
        for (setting, value) in &self.overrides {
            client.set(setting, value);
        }
        client
    }
}

impl Security {
    fn read(reader: &mut Reader<'_>) -> Self {
        let security = Self {
            protocol: reader.raw(SECURITY_PROTOCOL).map(|protocol| protocol.to_ascii_lowercase()),
            mechanism: reader.raw(SASL_MECHANISM).map(|mechanism| mechanism.to_ascii_uppercase()),
            username: reader.private(SASL_USERNAME),
            password: reader.secret(SASL_PASSWORD),
            ca_file: reader.optional(CA_FILE),
        };
        security.problems().into_iter().for_each(|problem| reader.problem(problem));
        security
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let protocol = self.protocol.as_deref().unwrap_or("plaintext");
        if !["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&protocol) {
            problems.push(format!(
                "{SECURITY_PROTOCOL}={protocol:?} cannot be used: it must be plaintext, ssl, sasl_plaintext or sasl_ssl"
            ));
        }
        let known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        if let Some(mechanism) = self.mechanism.as_deref().filter(|mechanism| !known.contains(mechanism)) {
            problems.push(format!("{SASL_MECHANISM}={mechanism:?} cannot be used: it must be one of {known:?}"));
        }
        if protocol.starts_with("sasl") {
            let missing = [
                (SASL_MECHANISM, self.mechanism.is_none()),
                (SASL_USERNAME, self.username.is_none()),
                (SASL_PASSWORD, self.password.is_none()),
            ];
            for (key, _) in missing.iter().filter(|(_, is_missing)| *is_missing) {
                problems.push(format!("{key} is not set: {SECURITY_PROTOCOL}={protocol} needs it"));
            }
        } else if self.mechanism.is_some() || self.username.is_some() || self.password.is_some() {
            problems.push(format!("{SECURITY_PROTOCOL}={protocol} signs nobody in, but a SASL setting is set"));
        }
        if let Some(file) = &self.ca_file {
            if !protocol.ends_with("ssl") {
                problems.push(format!("{SECURITY_PROTOCOL}={protocol} uses no TLS, but {CA_FILE} is set"));
            } else if let Err(error) = std::fs::File::open(file) {
                problems.push(format!("{CA_FILE}={} cannot be used: {error}", file.display()));
            }
        }
        problems
    }

    fn apply(&self, client: &mut ClientConfig) {
        let password = self.password.as_ref().map(ExposeSecret::expose_secret);
        let ca_file = self.ca_file.as_ref().map(|file| file.to_string_lossy());
        let settings = [
            ("security.protocol", self.protocol.as_deref()),
            ("sasl.mechanism", self.mechanism.as_deref()),
            ("sasl.username", self.username.as_deref()),
            ("sasl.password", password),
            ("ssl.ca.location", ca_file.as_deref()),
        ];
        for (setting, value) in settings {
            if let Some(value) = value {
                client.set(setting, value);
            }
        }
    }
}

fn small(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn is_bootstrap(reader: &mut Reader<'_>, servers: &str) -> bool {
    let is_server = |server: &str| {
        let server = server.trim();
        let (host, port) = server.rsplit_once(':').unwrap_or((server, "9092"));
        !host.is_empty()
            && !host.contains("://")
            && !host.contains('@')
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let usable = servers.split(',').all(is_server);
    if !usable {
        let shown = without_password(servers);
        reader.problem(format!("{BROKER_URL}={shown:?} cannot be used: it must be host:port, with commas between"));
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(vars: &dyn runtime::config::Vars) -> Vec<String> {
        let mut reader = Reader::new(vars);
        let config = KafkaConfig::read(&mut reader);
        reader.finish(|| config).err().map(|error| error.problems().to_vec()).unwrap_or_default()
    }

    #[test]
    fn the_address_is_enough() {
        let vars = [("KAFKA_BROKER_URL", "a:9092,b:9093")];
        let mut reader = Reader::new(&vars);
        let config = KafkaConfig::read(&mut reader).expect("a configuration");
        assert_eq!((config.partitions, config.replication, config.dead_letter_run_limit.get()), (12, 1, 1000));
        assert!(reader.finish(|| Some(())).is_ok());
    }

    #[test]
    fn every_problem_is_told() {
        let vars = [("KAFKA_PARTITIONS", "0"), ("DEAD_LETTER_RUN_LIMIT", "0"), ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl")];
        assert_eq!(problems(&vars).len(), 6, "{:?}", problems(&vars));
    }

    #[test]
    fn an_address_that_is_a_url_or_has_no_port_number_or_names_a_user_is_refused() {
        for address in ["kafka://a:9092", "a:port", ":9092", "a:9092,,b:9092", "a:0", "ada:hush@a:9092"] {
            let problems = problems(&[("KAFKA_BROKER_URL", address)]);
            assert!(problems.len() == 1 && !problems[0].contains("hush"), "{problems:?}");
        }
    }

    #[test]
    fn sign_in_without_the_protocol_for_it_is_a_problem() {
        let vars = [("KAFKA_BROKER_URL", "a:9092"), ("KAFKA_SASL_USERNAME", "ada"), ("KAFKA_CA_FILE", "/nowhere")];
        assert_eq!(problems(&vars).len(), 2);
        let vars = [
            ("KAFKA_BROKER_URL", "a:9092"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_SASL_MECHANISM", "GSSAPI"),
            ("KAFKA_SASL_USERNAME", "ada"),
            ("KAFKA_SASL_PASSWORD", "hush"),
        ];
        assert_eq!(problems(&vars).len(), 1);
    }

    #[test]
    fn the_password_reaches_the_client_and_never_shows() {
        let vars = [
            ("KAFKA_BROKER_URL", "a:9092"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_SASL_MECHANISM", "scram-sha-512"),
            ("KAFKA_SASL_USERNAME", "ada"),
            ("KAFKA_SASL_PASSWORD", "hush"),
        ];
        let mut reader = Reader::new(&vars);
        let config = KafkaConfig::read(&mut reader).expect("a configuration");
        assert_eq!(config.client().get("sasl.password"), Some("hush"));
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn a_setting_of_ones_own_wins() {
        let config = KafkaConfig::plain("a:9092").with("session.timeout.ms", "2000");
        assert_eq!(config.consumer("group").get("session.timeout.ms"), Some("2000"));
    }
}
