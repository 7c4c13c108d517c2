//! The settings, read once.

use std::{net::SocketAddr, time::Duration};

use events::topics::Namespace;
use kafka::KafkaConfig;
use pg::Database;
use runtime::{
    config::{ConfigError, Reader, RuntimeConfig, Settings, Vars},
    http_client::Proxies,
    listen::Listen,
};
use tonic::transport::Endpoint;

use crate::{
    SERVICE,
    opensky::{Credentials, OpenSkyConfig},
};

const HTTP_ADDR: &str = "HTTP_ADDR";
const GRPC_ADDR: &str = "GRPC_ADDR";
const USER_MANAGER_GRPC_URL: &str = "USER_MANAGER_GRPC_URL";
const OPEN_SKY_CLIENT_ID: &str = "OPEN_SKY_CLIENT_ID";
const OPEN_SKY_CLIENT_SECRET: &str = "OPEN_SKY_CLIENT_SECRET";
const OPEN_SKY_API_URL: &str = "OPEN_SKY_API_URL";
const OPEN_SKY_TOKEN_URL: &str = "OPEN_SKY_TOKEN_URL";
const COLLECT_INTERVAL_SECONDS: &str = "COLLECT_INTERVAL_SECONDS";
const RETENTION_DAYS: &str = "RETENTION_DAYS";
const INTERESTS_PER_USER: &str = "INTERESTS_PER_USER";

/// Where OpenSky is asked.
pub const DEFAULT_API_URL: &str = "https://opensky-network.org/api";
/// Where OpenSky signs clients in.
pub const DEFAULT_TOKEN_URL: &str =
    "https://auth.opensky-network.org/auth/realms/opensky-network/protocol/openid-connect/token";

/// The official client's own time-out.
const OPEN_SKY_TIME_LIMIT: Duration = Duration::from_secs(15);
/// How long a breaker stays open.
const OPEN_SKY_OPEN_FOR: Duration = Duration::from_secs(60);

/// Everything the service is told from outside.
pub struct Config {
    /// What every process takes.
    pub runtime: RuntimeConfig,
    /// All that was read, as it may be shown.
    pub settings: Settings,
    /// The service's own database.
    pub database: Database,
    /// Where Kafka is.
    pub kafka: KafkaConfig,
    /// The topics in use.
    pub topics: Namespace,
    /// Where HTTP is served.
    pub http: Listen,
    /// Where gRPC is served.
    pub grpc: Listen,
    /// Where user-manager answers.
    pub user_manager: Endpoint,
    /// How OpenSky is asked.
    pub open_sky: OpenSkyConfig,
    /// The source of the data, in words that people read in messages.
    pub source: String,
    /// The least time between two collections of an airport.
    pub collect_interval: Duration,
    /// How long flights and readings are kept, in days.
    pub retention_days: u32,
    /// How many interests a person may have.
    pub interests_per_user: u32,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Everything that is missing or wrong, at once.
    pub fn from_vars(vars: &dyn Vars) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(vars);
        let runtime = RuntimeConfig::read(&mut reader);
        let database = Database::read(&mut reader, "data-collector");
        let kafka = KafkaConfig::read(&mut reader);
        let http: SocketAddr = reader.or(HTTP_ADDR, SocketAddr::from(([0, 0, 0, 0], 5000)));
        let grpc: SocketAddr = reader.or(GRPC_ADDR, SocketAddr::from(([0, 0, 0, 0], 50052)));
        let user_manager =
            grpc_edge::endpoint(&mut reader, USER_MANAGER_GRPC_URL, "user-manager", "http://user-manager:50051");
        let open_sky = open_sky(&mut reader);
        let collect_interval = reader.seconds(COLLECT_INTERVAL_SECONDS, 300);
        let retention_days = small(reader.number(RETENTION_DAYS, 90, 1, 36_500));
        let interests_per_user = small(reader.number(INTERESTS_PER_USER, 50, 1, 1_000_000));
        let settings = reader.settings();
        reader.finish(|| {
            Some(Self {
                runtime,
                settings,
                database: database?,
                kafka: kafka?,
                topics: Namespace::of(SERVICE.topics),
                http: http.into(),
                grpc: grpc.into(),
                user_manager: user_manager?,
                open_sky: open_sky?,
                source: "OpenSky Network".to_owned(),
                collect_interval,
                retention_days,
                interests_per_user,
            })
        })
    }
}

fn open_sky(reader: &mut Reader<'_>) -> Option<OpenSkyConfig> {
    let client_id = reader.private(OPEN_SKY_CLIENT_ID);
    let client_secret = reader.secret(OPEN_SKY_CLIENT_SECRET);
    if client_id.is_some() != client_secret.is_some() {
        reader.problem(format!(
            "{OPEN_SKY_CLIENT_ID} and {OPEN_SKY_CLIENT_SECRET} must be set together, or neither for anonymous access"
        ));
    }
    let credentials = client_id.zip(client_secret);
    let credentials = credentials.map(|(client_id, client_secret)| Credentials { client_id, client_secret });
    let api_url = reader.web_url(OPEN_SKY_API_URL, DEFAULT_API_URL);
    let token_url = reader.web_url(OPEN_SKY_TOKEN_URL, DEFAULT_TOKEN_URL);
    let proxies = Proxies::read(reader);
    Some(OpenSkyConfig {
        api_url: api_url?,
        token_url: token_url?,
        credentials,
        proxies,
        time_limit: OPEN_SKY_TIME_LIMIT,
        open_for: OPEN_SKY_OPEN_FOR,
    })
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const ENOUGH: [(&str, &str); 3] = [
        ("DATABASE_URL", "postgres://localhost/data_collector"),
        ("KAFKA_BROKER_URL", "localhost:9092"),
        ("USER_MANAGER_GRPC_URL", "http://localhost:50051"),
    ];

    fn with(more: &[(&str, &str)]) -> HashMap<String, String> {
        ENOUGH.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn three_addresses_are_enough() {
        let config = Config::from_vars(&ENOUGH).expect("a configuration");
        assert_eq!(config.collect_interval, Duration::from_secs(300));
        assert_eq!((config.retention_days, config.interests_per_user), (90, 50));
        assert!(config.open_sky.credentials.is_none());
    }

    #[test]
    fn a_single_day_of_retention_is_allowed_and_none_is_not() {
        let days = |days| Config::from_vars(&with(&[("RETENTION_DAYS", days)])).map(|config| config.retention_days);
        assert_eq!(days("1").expect("a configuration"), 1);
        assert!(days("0").is_err());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let wrong = [
            ("USER_MANAGER_GRPC_URL", "localhost:50051"),
            ("OPEN_SKY_CLIENT_ID", "somebody"),
            ("OPEN_SKY_API_URL", "ftp://opensky"),
            ("COLLECT_INTERVAL_SECONDS", "0"),
            ("RETENTION_DAYS", "a lot"),
            ("HTTP_ADDR", "5000"),
        ];
        let problems = Config::from_vars(&wrong).err().expect("problems");
        assert_eq!(problems.problems().len(), 8, "{problems}");
    }

    #[test]
    fn no_secret_shows_in_a_problem() {
        let wrong = with(&[("DATABASE_URL", "mysql://ada:hush@localhost/x"), ("OPEN_SKY_CLIENT_SECRET", "hush")]);
        let problems = Config::from_vars(&wrong).err().expect("problems");
        assert_eq!(problems.problems().len(), 2, "{problems}");
        assert!(!problems.to_string().contains("hush"));
    }
}
