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
use secrecy::{ExposeSecret, SecretString};
use tonic::transport::Endpoint;

use crate::{SERVICE, core::retry_schedule::Schedule, telegram::TelegramConfig};

/// The Bot API, for everybody who does not run a server of it.
pub const BOT_API: &str = "https://api.telegram.org";

/// Everything the notifier is told from outside.
pub struct Config {
    /// What every process is told.
    pub runtime: RuntimeConfig,
    /// All that was read, as it may be shown.
    pub settings: Settings,
    /// Where gRPC is served.
    pub grpc: Listen,
    /// The notifier's own database.
    pub database: Database,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// The topics.
    pub topics: Namespace,
    /// user-manager.
    pub user_manager: Endpoint,
    /// Telegram.
    pub telegram: TelegramConfig,
    /// How messages are sent.
    pub sending: Sending,
}

/// How messages are sent. Only the two limits come from the environment; the rest is the contract's
/// and is here so that tests have it shorter.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Messages a second in all; 0 lifts the limit.
    pub per_second: u32,
    /// Messages a minute to each group; 0 lifts the limit, and the one message a second in any chat.
    pub group_per_minute: u32,
    /// When a refused message is tried again.
    pub schedule: Schedule,
    /// How often Telegram is probed while it is out of order.
    pub probe_interval: Duration,
    /// How soon a user without a chat is looked up again, at the soonest.
    pub contact_interval: Duration,
    /// How long an alert is kept for a user without a chat that can be reached.
    pub contact_timeout: Duration,
    /// How long user-manager must have been saying that an address is not registered before it is
    /// believed: a user-manager with the wrong or an empty database says so of everybody.
    pub gone_timeout: Duration,
    /// How long the database's clock must have been watched without a step before an alert is given up because of
    /// its age.
    pub clock_steady_time: Duration,
    /// The same before a settled alert is forgotten because of its age.
    pub cleaning_steady_time: Duration,
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            per_second: 30,
            group_per_minute: 20,
            schedule: Schedule::default(),
            probe_interval: Duration::from_secs(5),
            contact_interval: Duration::from_secs(15),
            contact_timeout: Duration::from_secs(24 * 3600),
            gone_timeout: Duration::from_secs(3600),
            clock_steady_time: Duration::from_secs(600),
            cleaning_steady_time: pg::clock::STEADY_TIME,
        }
    }
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_vars(vars: &dyn Vars) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(vars);
        let runtime = RuntimeConfig::read(&mut reader);
        let grpc = reader.or("GRPC_ADDR", SocketAddr::from(([0, 0, 0, 0], 50053)));
        let database = Database::read(&mut reader, "notifier");
        let kafka = KafkaConfig::read(&mut reader);
        let user_manager =
            grpc_edge::endpoint(&mut reader, "USER_MANAGER_GRPC_URL", "user-manager", "http://user-manager:50051");
        let telegram = telegram(&mut reader);
        let sending = Sending {
            per_second: limit(&mut reader, "TELEGRAM_MESSAGES_PER_SECOND", 30),
            group_per_minute: limit(&mut reader, "TELEGRAM_CHAT_MESSAGES_PER_MINUTE", 20),
            ..Sending::default()
        };
        let settings = reader.settings();
        reader.finish(|| {
            Some(Self {
                runtime,
                settings,
                grpc: Listen::At(grpc),
                database: database?,
                kafka: kafka?,
                topics: Namespace::of(SERVICE.topics),
                user_manager: user_manager?,
                telegram: telegram?,
                sending,
            })
        })
    }
}

fn telegram(reader: &mut Reader<'_>) -> Option<TelegramConfig> {
    const TOKEN_KEY: &str = "TELEGRAM_BOT_TOKEN";
    let api_url = reader.web_url("TELEGRAM_API_URL", BOT_API);
    let token = reader.required_secret(
        TOKEN_KEY,
        "the token of the bot that sends the messages: write /newbot to @BotFather in Telegram and it answers with one",
    );
    if token.as_ref().is_some_and(|token| !is_token(token)) {
        reader.problem(format!(
            "{TOKEN_KEY} cannot be used: a token looks like 123456:ABC-DEF_ghi (the value is not shown here)"
        ));
    }
    let proxies = Proxies::read(reader);
    Some(TelegramConfig { api_url: api_url?, token: token?, proxies, call_limit: Duration::from_secs(10) })
}

/// Characters that tokens are made of. Any other would change the address that is called.
fn is_token(token: &SecretString) -> bool {
    token.expose_secret().bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte))
}

fn limit(reader: &mut Reader<'_>, key: &str, default: u64) -> u32 {
    reader.number(key, default, 0, 10_000).try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMUM: [(&str, &str); 4] = [
        ("DATABASE_URL", "postgres://notifier:hush@localhost/notifier"),
        ("KAFKA_BROKER_URL", "localhost:9092"),
        ("USER_MANAGER_GRPC_URL", "http://localhost:50051"),
        ("TELEGRAM_BOT_TOKEN", "123456:ABC-DEF_ghi"),
    ];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Result<Config, ConfigError> {
        let vars: std::collections::HashMap<String, String> =
            MINIMUM.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Config::from_vars(&vars)
    }

    #[test]
    fn four_settings_are_enough() {
        let config = with(&[]).expect("a configuration");
        assert_eq!(config.telegram.api_url.as_str(), "https://api.telegram.org/");
        assert_eq!((config.sending.per_second, config.sending.group_per_minute), (30, 20));
        assert_eq!(config.grpc.addr().expect("an address").port(), 50053);
    }

    #[test]
    fn everything_that_is_missing_is_told_at_once_and_how_to_get_a_token() {
        let nothing: [(&str, &str); 0] = [];
        let error = Config::from_vars(&nothing).err().expect("nothing is set");
        assert_eq!(error.problems().len(), 4, "{error}");
        assert!(error.to_string().contains("@BotFather"), "{error}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_no_secret_is_shown() {
        let error = with(&[
            ("DATABASE_URL", "mysql://root:hush@localhost"),
            ("USER_MANAGER_GRPC_URL", "user-manager"),
            ("TELEGRAM_BOT_TOKEN", "hush/../x?"),
            ("TELEGRAM_API_URL", "ftp://localhost"),
            ("TELEGRAM_MESSAGES_PER_SECOND", "-1"),
            ("TELEGRAM_CHAT_MESSAGES_PER_MINUTE", "many"),
            ("GRPC_ADDR", "nowhere"),
        ])
        .err()
        .expect("all of them are wrong");
        assert_eq!(error.problems().len(), 7, "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }

    #[test]
    fn zero_lifts_a_limit() {
        let config = with(&[("TELEGRAM_MESSAGES_PER_SECOND", "0")]).expect("a configuration");
        assert_eq!(config.sending.per_second, 0);
    }

    #[test]
    fn the_token_never_shows() {
        let config = with(&[]).expect("a configuration");
        assert!(!format!("{:?}", config.telegram).contains("ABC"));
    }
}
