//! The settings of a process that runs every service: each service reads its own, from the same
//! environment, with the addresses that are decided here laid over it.

use std::{net::SocketAddr, path::PathBuf};

use shell::config::{ConfigError, Overlay, Reader, ShellConfig, Vars};

/// The keys of the four databases, in the order user-manager, data-collector, alert-system, notifier.
pub const DATABASE_KEYS: [&str; 4] =
    ["USER_MANAGER_DATABASE_URL", "DATA_COLLECTOR_DATABASE_URL", "ALERT_SYSTEM_DATABASE_URL", "NOTIFIER_DATABASE_URL"];

/// The names of the four databases in a private PostgreSQL, in the same order.
pub const DATABASES: [&str; 4] = ["user_manager", "data_collector", "alert_system", "notifier"];

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
const LATER_ADDRESS: &str = "127.0.0.1:1";

/// Where the services find what they share.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The four databases, in the order of [`DATABASES`].
    pub databases: [String; 4],
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// user-manager's gRPC address.
    pub user_manager_grpc: SocketAddr,
    /// data-collector's gRPC address.
    pub data_collector_grpc: SocketAddr,
    /// notifier's gRPC address.
    pub notifier_grpc: SocketAddr,
}

/// What every service of this process is configured with.
pub struct Services {
    /// user-manager's.
    pub user_manager: user_manager::Config,
    /// data-collector's.
    pub data_collector: data_collector::Config,
    /// alert-system's.
    pub alert_system: alert_system::Config,
    /// notifier's.
    pub notifier: notifier::Config,
}

/// Which servers the operator named, and so which are private.
#[derive(Clone, Debug)]
pub struct Given {
    /// The four databases, when all are named.
    pub databases: Option<[String; 4]>,
    /// Kafka's bootstrap servers, when named.
    pub kafka: Option<String>,
    /// Where Kafka's jars lie, when not in the usual place.
    pub kafka_home: Option<PathBuf>,
    /// Where Java lies, when not in the usual places.
    pub java_home: Option<PathBuf>,
}

/// The environment of a process that runs everything: the admin port is on loopback, unless named.
#[must_use]
pub fn of_one_process(vars: &dyn Vars) -> Overlay<'_> {
    Overlay::on(vars).with_default("ADMIN_ADDR", "127.0.0.1:0")
}

/// Checks every setting before anything is bound or started.
///
/// # Errors
/// Everything that is wrong, told at once.
pub fn check(vars: &dyn Vars) -> Result<(ShellConfig, Given), ConfigError> {
    let vars = of_one_process(vars);
    let later = Addresses {
        databases: std::array::from_fn(|_| LATER_DATABASE.to_owned()),
        kafka: LATER_ADDRESS.to_owned(),
        user_manager_grpc: SocketAddr::from(([127, 0, 0, 1], 1)),
        data_collector_grpc: SocketAddr::from(([127, 0, 0, 1], 1)),
        notifier_grpc: SocketAddr::from(([127, 0, 0, 1], 1)),
    };
    let mut reader = Reader::new(&vars);
    let shell = ShellConfig::read(&mut reader);
    let given = Given::read(&mut reader);
    let own = reader.finish(|| Some(()));
    let services = services(&vars, &given.filled(later));
    let errors = own.err().into_iter().chain(services.err());
    match ConfigError::joined(errors) {
        Some(error) => Err(error),
        None => Ok((shell, given)),
    }
}

/// The configuration of every service, with `addresses` laid over the environment.
///
/// # Errors
/// Everything that is wrong in any of them, told at once.
pub fn services(vars: &dyn Vars, addresses: &Addresses) -> Result<Services, ConfigError> {
    let vars = Overlay::on(vars)
        .with("HTTP_ADDR", "127.0.0.1:0")
        .with("GRPC_ADDR", "127.0.0.1:0")
        .with("KAFKA_BROKER_URL", &addresses.kafka)
        .with("USER_MANAGER_GRPC_URL", format!("http://{}", addresses.user_manager_grpc))
        .with("DATA_COLLECTOR_GRPC_URL", format!("http://{}", addresses.data_collector_grpc))
        .with("NOTIFIER_GRPC_URL", format!("http://{}", addresses.notifier_grpc));
    let database = |index: usize| {
        let url = addresses.databases.get(index).cloned().unwrap_or_default();
        Overlay::on(&vars).with("DATABASE_URL", url).without("DATABASE_URL_FILE")
    };
    let user_manager = user_manager::Config::from_vars(&database(0)).map_err(|error| under_its_key(0, &error));
    let data_collector = data_collector::Config::from_vars(&database(1)).map_err(|error| under_its_key(1, &error));
    let alert_system = alert_system::Config::from_vars(&database(2)).map_err(|error| under_its_key(2, &error));
    let notifier = notifier::Config::from_vars(&database(3)).map_err(|error| under_its_key(3, &error));
    match (user_manager, data_collector, alert_system, notifier) {
        (Ok(user_manager), Ok(data_collector), Ok(alert_system), Ok(notifier)) => {
            Ok(Services { user_manager, data_collector, alert_system, notifier })
        }
        (one, two, three, four) => {
            let errors = [one.err(), two.err(), three.err(), four.err()].into_iter().flatten();
            Err(ConfigError::joined(errors).unwrap_or_else(|| ConfigError::of("a service cannot be configured")))
        }
    }
}

/// A service calls its database `DATABASE_URL`; here each has a key of its own.
fn under_its_key(index: usize, error: &ConfigError) -> ConfigError {
    let renamed = error.problems().iter().map(|problem| match problem.strip_prefix("DATABASE_URL") {
        Some(rest) => ConfigError::of(format!("{}{rest}", DATABASE_KEYS[index])),
        None => ConfigError::of(problem),
    });
    ConfigError::joined(renamed).unwrap_or_else(|| ConfigError::of("a service cannot be configured"))
}

impl Given {
    /// What can be read of it, however much is wrong.
    #[must_use]
    pub fn read_leniently(vars: &dyn Vars) -> Self {
        Self::read(&mut Reader::new(vars))
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        use secrecy::ExposeSecret;
        let named = DATABASE_KEYS.map(|key| reader.secret(key));
        let missing: Vec<_> =
            DATABASE_KEYS.iter().zip(&named).filter(|(_, url)| url.is_none()).map(|(key, _)| *key).collect();
        if !missing.is_empty() && missing.len() < DATABASE_KEYS.len() {
            reader.problem(format!(
                "some database addresses are set and {} not: set all four, or none for a private PostgreSQL",
                missing.join(", ")
            ));
        }
        let databases = missing
            .is_empty()
            .then(|| named.map(|url| url.map_or_else(String::new, |url| url.expose_secret().to_owned())));
        let kafka = reader.raw("KAFKA_BROKER_URL");
        let says_more = |value: String| value != "1" && !value.eq_ignore_ascii_case("plaintext");
        let meant = OF_A_NAMED_KAFKA.into_iter().filter(|key| reader.raw(key).is_some_and(says_more));
        let meant: Vec<_> = meant.collect();
        if kafka.is_none() && !meant.is_empty() {
            reader.problem(format!(
                "{} set without KAFKA_BROKER_URL: set that too, or unset them for a private Kafka, which has one broker \
                 and no passwords",
                meant.join(", ")
            ));
        }
        Self { databases, kafka, kafka_home: reader.optional("KAFKA_HOME"), java_home: reader.optional("JAVA_HOME") }
    }

    /// `addresses` with what the operator named in place of what would be private.
    #[must_use]
    pub fn filled(&self, mut addresses: Addresses) -> Addresses {
        if let Some(databases) = &self.databases {
            addresses.databases.clone_from(databases);
        }
        if let Some(kafka) = &self.kafka {
            addresses.kafka.clone_from(kafka);
        }
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_kafka_that_nobody_named_are_a_problem() {
        let token = ("TELEGRAM_BOT_TOKEN", "1:a");
        let of_a_named_one = [token, ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"), ("KAFKA_REPLICATION", "3")];
        let error = check(&of_a_named_one).expect_err("a problem").to_string();
        assert!(error.contains("KAFKA_REPLICATION, KAFKA_SECURITY_PROTOCOL set without KAFKA_BROKER_URL"), "{error}");
        let of_any = [token, ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"), ("KAFKA_REPLICATION", "1")];
        check(&of_any).expect("they say what is so anyway");
    }
}
