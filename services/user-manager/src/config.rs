//! The settings, read once.

use std::net::SocketAddr;

use pg::Database;
use runtime::{
    config::{ConfigError, Reader, RuntimeConfig, Settings, Vars},
    listen::Listen,
};
use tonic::transport::Endpoint;

/// Everything user-manager is told from outside.
pub struct Config {
    /// What every process is told.
    pub runtime: RuntimeConfig,
    /// All that was read, as it may be shown.
    pub settings: Settings,
    /// Where HTTP is served.
    pub http_addr: Listen,
    /// Where gRPC is served.
    pub grpc_addr: Listen,
    /// user-manager's own database.
    pub database: Database,
    /// data-collector, which is told of deletions.
    pub data_collector: Endpoint,
    /// notifier, which is told of chats; without it, it finds out within a minute.
    pub notifier: Option<Endpoint>,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_vars(vars: &dyn Vars) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(vars);
        let runtime = RuntimeConfig::read(&mut reader);
        let http_addr = reader.or("HTTP_ADDR", SocketAddr::from(([0, 0, 0, 0], 5000)));
        let grpc_addr = reader.or("GRPC_ADDR", SocketAddr::from(([0, 0, 0, 0], 50051)));
        let database = Database::read(&mut reader, "user-manager");
        let data_collector = grpc_edge::endpoint(
            &mut reader,
            "DATA_COLLECTOR_GRPC_URL",
            "data-collector",
            "http://data-collector:50052",
        );
        let notifier = reader
            .raw("NOTIFIER_GRPC_URL")
            .and_then(|_| grpc_edge::endpoint(&mut reader, "NOTIFIER_GRPC_URL", "notifier", "http://notifier:50053"));
        let settings = reader.settings();
        reader.finish(|| {
            Some(Self {
                runtime,
                settings,
                http_addr: Listen::At(http_addr),
                grpc_addr: Listen::At(grpc_addr),
                database: database?,
                data_collector: data_collector?,
                notifier,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMUM: [(&str, &str); 2] =
        [("DATABASE_URL", "postgres://um:hush@localhost/um"), ("DATA_COLLECTOR_GRPC_URL", "http://localhost:50052")];

    #[test]
    fn two_settings_are_enough() {
        let config = Config::from_vars(&MINIMUM).expect("a configuration");
        assert_eq!(config.http_addr.addr().expect("an address").port(), 5000);
        assert_eq!(config.grpc_addr.addr().expect("an address").port(), 50051);
    }

    #[test]
    fn everything_that_is_missing_is_told_at_once() {
        let nothing: [(&str, &str); 0] = [];
        let error = Config::from_vars(&nothing).err().expect("nothing is set");
        assert_eq!(error.problems().len(), 2, "{error}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_no_secret_is_shown() {
        let vars = [
            ("DATABASE_URL", "mysql://root:hush@localhost"),
            ("DATA_COLLECTOR_GRPC_URL", "data-collector"),
            ("NOTIFIER_GRPC_URL", "notifier"),
            ("HTTP_ADDR", "nowhere"),
            ("GRPC_ADDR", "50051"),
            ("ADMIN_ADDR", "x"),
        ];
        let error = Config::from_vars(&vars).err().expect("all of them are wrong");
        assert_eq!(error.problems().len(), 6, "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
