//! A `flightbell up` that runs on this machine, as others see it.

use std::path::Path;

use local_servers::{Addresses, DataDir};

/// The process that holds a data directory, and where its parts are.
#[derive(Clone, Debug)]
pub struct RunningInstance {
    /// The process.
    pub pid: String,
    addresses: Addresses,
}

impl RunningInstance {
    /// The process that holds `folder`, if one does and has come so far as to say where its parts are.
    #[must_use]
    pub fn find(folder: &Path) -> Option<Self> {
        let pid = DataDir::holder(folder).ok().flatten()?;
        let addresses = Addresses::read(folder).ok().flatten()?;
        Some(Self { pid, addresses })
    }

    /// Kafka's bootstrap servers.
    #[must_use]
    pub fn kafka(&self) -> &str {
        &self.addresses.kafka
    }

    /// The admin port.
    #[must_use]
    pub fn admin(&self) -> &str {
        &self.addresses.admin
    }

    /// The private databases, by service; none when the operator named others.
    pub fn databases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.addresses.databases.iter().map(|(service, url)| (service.as_str(), url.as_str()))
    }
}
