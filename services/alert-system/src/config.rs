//! The worker's settings.

use events::topics::Namespace;
use kafka::KafkaConfig;
use pg::Database;
use runtime::config::{ConfigError, Reader, RuntimeConfig, Settings, Vars};

use crate::SERVICE;

/// The worker's settings.
#[derive(Clone)]
pub struct Config {
    /// Where the levels are kept.
    pub database: Database,
    /// Where readings come from and alerts go.
    pub kafka: KafkaConfig,
    /// The names of topics and group.
    pub topics: Namespace,
    /// What every process takes.
    pub runtime: RuntimeConfig,
    /// All that was read, as it may be shown.
    pub settings: Settings,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Everything that is missing or cannot be used, at once.
    pub fn from_vars(vars: &dyn Vars) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(vars);
        let database = Database::read(&mut reader, "alert-system");
        let kafka = KafkaConfig::read(&mut reader);
        let runtime = RuntimeConfig::read(&mut reader);
        let settings = reader.settings();
        reader.finish(|| {
            let topics = Namespace::of(SERVICE.topics);
            Some(Self { database: database?, kafka: kafka?, topics, runtime, settings })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_addresses_are_enough() {
        let vars = [("DATABASE_URL", "postgres://a@localhost/alert_system"), ("KAFKA_BROKER_URL", "localhost:9092")];
        let config = Config::from_vars(&vars).unwrap();
        assert_eq!(config.topics, Namespace::default());
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let error = Config::from_vars(&[("DATABASE_URL", "mysql://a"), ("KAFKA_PARTITIONS", "none")]).err().unwrap();
        assert_eq!(error.problems().len(), 3, "{error}");
        let nothing: [(&str, &str); 0] = [];
        assert_eq!(Config::from_vars(&nothing).err().unwrap().problems().len(), 2);
    }
}
