//! The settings of a process that runs every service: each service reads its own, from the same
//! environment, with the addresses that are decided here laid over it.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use runtime::config::{ConfigError, Overlay, Reader, RuntimeConfig, Settings, Vars};
use secrecy::{ExposeSecret, SecretString};
use service::{Configured, ServiceSpec};

use crate::services::{ServiceAddrs, ServiceList};

/// What only makes sense for a Kafka that the operator named.
pub const OF_A_NAMED_KAFKA: [&str; 7] = [
    "KAFKA_REPLICATION",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SASL_PASSWORD_FILE",
    "KAFKA_CA_FILE",
];

/// Stands where an address will stand once the servers run, so that everything else can be checked
/// before anything is started.
const LATER_DATABASE: &str = "postgres://later/later";
const LATER_KAFKA: &str = "127.0.0.1:1";
const LATER_GRPC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// Who sets what is decided here, in the list of settings.
pub const UP: &str = "up";

/// Database URLs, by the service's name.
pub type DatabaseUrls = BTreeMap<&'static str, SecretString>;

/// How many partitions a topic on a private Kafka gets unless `KAFKA_PARTITIONS` says otherwise. Each
/// partition that a batch touches is a write to disk of its own, and one process gains nothing from the
/// parallelism that more of them allow (measured in `benches/speed`).
const PRIVATE_PARTITIONS: &str = "1";

/// Where the services find what they share.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Of each service that has a database.
    pub databases: DatabaseUrls,
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// Whether Kafka is private: a single broker for this process alone.
    pub kafka_is_private: bool,
    /// Of each service that serves gRPC.
    pub grpc: ServiceAddrs,
}

/// Which servers the operator named, and so which are private.
#[derive(Clone, Debug)]
pub struct ExternalServers {
    /// The databases, when all are named.
    pub databases: Option<DatabaseUrls>,
    /// Kafka's bootstrap servers, when named.
    pub kafka: Option<String>,
    /// Where Kafka's jars lie, when not in the usual place.
    pub kafka_home: Option<PathBuf>,
    /// Where Java lies, when not in the usual places.
    pub java_home: Option<PathBuf>,
    /// What was read of the process's own settings, as they may be shown.
    pub settings: Settings,
}

/// The environment of a process that runs everything: the admin port is on loopback, unless named.
#[must_use]
pub fn of_one_process(vars: &dyn Vars) -> Overlay<'_> {
    Overlay::on(vars).by(UP).with_default("ADMIN_ADDR", "127.0.0.1:0")
}

/// Checks every setting before anything is bound or started.
///
/// # Errors
/// Everything that is wrong, told at once.
pub fn check(services: ServiceList, vars: &dyn Vars) -> Result<(RuntimeConfig, ExternalServers), ConfigError> {
    let vars = of_one_process(vars);
    let mut reader = Reader::new(&vars);
    let runtime = RuntimeConfig::read(&mut reader);
    let external = ExternalServers::read(services, &mut reader);
    let own = reader.finish(|| Some(()));
    let configured = configure(services, &vars, &external.filled(Addresses::later(services)));
    let errors = own.err().into_iter().chain(configured.err());
    match ConfigError::joined(errors) {
        Some(error) => Err(error),
        None => Ok((runtime, external)),
    }
}

/// The configuration of every service, in their order, with `addresses` laid over the environment.
///
/// # Errors
/// Everything that is wrong in any of them, told at once.
pub fn configure(
    services: ServiceList,
    vars: &dyn Vars,
    addresses: &Addresses,
) -> Result<Vec<Configured>, ConfigError> {
    let (mut configured, mut errors) = (Vec::new(), Vec::new());
    for (spec, read) in read_each(services, vars, addresses) {
        match read {
            Ok(service) => configured.push(service),
            Err(error) => errors.push(under_its_key(spec, &error)),
        }
    }
    ConfigError::joined(errors).map_or(Ok(configured), Err)
}

/// The configuration of each service, or what is wrong with it, with `addresses` laid over the environment.
pub(crate) fn read_each(
    services: ServiceList,
    vars: &dyn Vars,
    addresses: &Addresses,
) -> Vec<(&'static ServiceSpec, Result<Configured, ConfigError>)> {
    let shared = Overlay::on(vars).by(UP).with("HTTP_ADDR", "127.0.0.1:0").with("GRPC_ADDR", "127.0.0.1:0");
    let shared = services.iter().fold(shared, |overlay, spec| match (spec.grpc_key(), addresses.grpc.get(spec.name)) {
        (Some(key), Some(addr)) => overlay.with(key, format!("http://{addr}")),
        _ => overlay,
    });
    // One that is not private stands in the environment.
    let shared = if addresses.kafka_is_private {
        shared.with("KAFKA_BROKER_URL", &addresses.kafka).with_default("KAFKA_PARTITIONS", PRIVATE_PARTITIONS)
    } else {
        shared
    };
    let read = services.iter().map(|spec| {
        let url = addresses.databases.get(spec.name).map(|url| url.expose_secret().to_owned());
        let own = Overlay::on(&shared).by(UP).with("DATABASE_URL", url.unwrap_or_default());
        (*spec, (spec.configure)(&own.without("DATABASE_URL_FILE")))
    });
    read.collect()
}

/// A service calls its database `DATABASE_URL`; here each has a key of its own.
fn under_its_key(spec: &ServiceSpec, error: &ConfigError) -> ConfigError {
    let key = spec.database_key().unwrap_or_default();
    let renamed = error.problems().iter().map(|problem| match problem.strip_prefix("DATABASE_URL") {
        Some(rest) => ConfigError::of(format!("{key}{rest}")),
        None => ConfigError::of(problem),
    });
    ConfigError::joined(renamed).unwrap_or_else(|| ConfigError::of(format!("{} cannot be configured", spec.name)))
}

impl Addresses {
    /// Before anything runs.
    pub(crate) fn later(services: ServiceList) -> Self {
        let databases = services.iter().filter(|spec| spec.migrations.is_some());
        let grpc = services.iter().filter(|spec| spec.grpc);
        Self {
            databases: databases.map(|spec| (spec.name, LATER_DATABASE.into())).collect(),
            kafka: LATER_KAFKA.to_owned(),
            kafka_is_private: true,
            grpc: grpc.map(|spec| (spec.name, LATER_GRPC)).collect(),
        }
    }
}

impl ExternalServers {
    /// What can be read of it, however much is wrong.
    #[must_use]
    pub fn read_leniently(services: ServiceList, vars: &dyn Vars) -> Self {
        let vars = of_one_process(vars);
        let mut reader = Reader::new(&vars);
        RuntimeConfig::read(&mut reader);
        Self::read(services, &mut reader)
    }

    fn read(services: ServiceList, reader: &mut Reader<'_>) -> Self {
        Self {
            databases: Self::databases(services, reader),
            kafka: Self::kafka(reader),
            kafka_home: reader.optional("KAFKA_HOME"),
            java_home: reader.optional("JAVA_HOME"),
            settings: reader.settings(),
        }
    }

    fn databases(services: ServiceList, reader: &mut Reader<'_>) -> Option<DatabaseUrls> {
        let (mut named, mut missing) = (DatabaseUrls::new(), Vec::new());
        for (spec, key) in services.iter().filter_map(|spec| Some((spec, spec.database_key()?))) {
            match reader.database_url(&key) {
                Some(url) => drop(named.insert(spec.name, url)),
                None => missing.push(key),
            }
        }
        if !missing.is_empty() && !named.is_empty() {
            reader.problem(format!(
                "some database addresses are set and {} not: set all of them, or none for a private PostgreSQL",
                missing.join(", ")
            ));
        }
        missing.is_empty().then_some(named)
    }

    fn kafka(reader: &mut Reader<'_>) -> Option<String> {
        let kafka = reader.raw("KAFKA_BROKER_URL");
        let says_more = |value: String| value != "1" && !value.eq_ignore_ascii_case("plaintext");
        let meant = OF_A_NAMED_KAFKA.into_iter().filter(|key| reader.unlisted(key).is_some_and(says_more));
        let meant: Vec<_> = meant.collect();
        if kafka.is_none() && !meant.is_empty() {
            reader.problem(format!(
                "{} set without KAFKA_BROKER_URL: set that too, or unset them for a private Kafka, which has one broker \
                 and no passwords",
                meant.join(", ")
            ));
        }
        kafka
    }

    /// `addresses` with what the operator named in place of what would be private.
    #[must_use]
    pub fn filled(&self, mut addresses: Addresses) -> Addresses {
        if let Some(databases) = &self.databases {
            addresses.databases.clone_from(databases);
        }
        if let Some(kafka) = &self.kafka {
            addresses.kafka.clone_from(kafka);
            addresses.kafka_is_private = false;
        }
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::SERVICES;

    #[test]
    fn settings_of_a_kafka_that_nobody_named_are_a_problem() {
        let token = ("TELEGRAM_BOT_TOKEN", "1:a");
        let of_a_named_one = [token, ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"), ("KAFKA_REPLICATION", "3")];
        let error = check(SERVICES, &of_a_named_one).expect_err("a problem").to_string();
        assert!(error.contains("KAFKA_REPLICATION, KAFKA_SECURITY_PROTOCOL set without KAFKA_BROKER_URL"), "{error}");
        let of_any = [token, ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"), ("KAFKA_REPLICATION", "1")];
        check(SERVICES, &of_any).expect("they say what is so anyway");
    }

    #[test]
    fn a_database_that_cannot_be_used_is_named_by_its_own_key_and_its_password_is_not_shown() {
        let databases = SERVICES.iter().filter_map(|spec| spec.database_key());
        let vars: std::collections::HashMap<String, String> = databases
            .map(|key| (key, "mysql://ada:hush@localhost/a".to_owned()))
            .chain([("TELEGRAM_BOT_TOKEN".to_owned(), "1:a".to_owned())])
            .collect();
        let error = check(SERVICES, &vars).expect_err("problems");
        assert_eq!(error.problems().len(), 4, "{error}");
        assert!(error.problems()[0].starts_with("USER_MANAGER_DATABASE_URL cannot be used"), "{error}");
        let external = ExternalServers::read_leniently(SERVICES, &vars);
        assert!(!format!("{error} {external:?}").contains("hush"));
    }

    #[test]
    fn some_databases_without_the_others_are_a_problem() {
        let vars = [("TELEGRAM_BOT_TOKEN", "1:a"), ("NOTIFIER_DATABASE_URL", "postgres://localhost/a")];
        let error = check(SERVICES, &vars).expect_err("a problem").to_string();
        assert!(error.contains("ALERT_SYSTEM_DATABASE_URL not: set all of them"), "{error}");
    }
}
