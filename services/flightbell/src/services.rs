//! The services of this program, and how several of them start in one process.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::Context;
use events::topics::{Namespace, WrongTable, merged};
use runtime::{Process, ServiceRuntime, clock::Clock, listen::Listen};
use service::{ClockKind, Configured, Launch, ServiceSpec};

/// Services that a process runs or knows of.
pub type ServiceList = &'static [&'static ServiceSpec];

/// Every service of Flightbell, in the order in which people are told of them. A new service is one line here.
pub static SERVICES: ServiceList =
    &[&user_manager::SERVICE, &data_collector::SERVICE, &alert_system::SERVICE, &notifier::SERVICE];

/// Where services answer, by name.
pub type ServiceAddrs = BTreeMap<&'static str, SocketAddr>;

/// The topics of all services, and what follows from them.
///
/// # Errors
/// When the tables of two services contradict each other.
pub fn topics(services: ServiceList) -> Result<Namespace, WrongTable> {
    merged(services.iter().map(|spec| spec.topics)).map(Namespace::of)
}

/// The listeners of the services, bound before any service starts, since each is told the others'
/// addresses.
pub struct Listeners(Vec<ServiceListeners>);

struct ServiceListeners {
    name: &'static str,
    http: Option<Listen>,
    grpc: Option<Listen>,
}

/// The clocks of the services: all the system's, except in a replay.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Of what is watched: collection, and the age of data.
    pub flights: Clock,
}

/// One runtime a service.
pub struct Runtimes(Vec<ServiceRuntime>);

impl Listeners {
    /// Binds free ports on the loopback interface.
    ///
    /// # Errors
    /// When no port is free.
    pub fn bind(services: ServiceList) -> anyhow::Result<Self> {
        let bind = |wanted: bool| wanted.then(Listen::on_loopback).transpose().context("bind a free loopback port");
        let bound = services
            .iter()
            .map(|spec| Ok(ServiceListeners { name: spec.name, http: bind(spec.http)?, grpc: bind(spec.grpc)? }));
        bound.collect::<anyhow::Result<_>>().map(Self)
    }

    /// Where gRPC will be answered.
    ///
    /// # Errors
    /// When a listener's address cannot be read.
    pub fn grpc(&self) -> anyhow::Result<ServiceAddrs> {
        self.addresses(|listeners| listeners.grpc.as_ref())
    }

    /// Where HTTP will be answered.
    ///
    /// # Errors
    /// When a listener's address cannot be read.
    pub fn http(&self) -> anyhow::Result<ServiceAddrs> {
        self.addresses(|listeners| listeners.http.as_ref())
    }

    fn addresses(&self, of: impl Fn(&ServiceListeners) -> Option<&Listen>) -> anyhow::Result<ServiceAddrs> {
        let bound = self.0.iter().filter_map(|listeners| Some((listeners.name, of(listeners)?)));
        bound.map(|(name, listen)| Ok((name, listen.addr().context("read a listener's address")?))).collect()
    }

    fn take(&mut self, name: &str) -> (Option<Listen>, Option<Listen>) {
        let found = self.0.iter_mut().find(|listeners| listeners.name == name);
        found.map(|listeners| (listeners.http.take(), listeners.grpc.take())).unwrap_or_default()
    }
}

impl Runtimes {
    /// A runtime for each service of `process`.
    pub fn of(process: &mut Process, services: ServiceList, clocks: Clocks) -> Self {
        let clock = |kind| match kind {
            ClockKind::System => Clock::system(),
            ClockKind::Flights => clocks.flights,
        };
        Self(services.iter().map(|spec| process.runtime(spec.name, clock(spec.clock))).collect())
    }

    /// Starts every service and waits until each has what it depends on. `data_source` is where the
    /// flights come from in words, when that is not OpenSky itself.
    ///
    /// # Errors
    /// The first that cannot start, named.
    pub async fn start(
        &self,
        services: Vec<Configured>,
        mut listeners: Listeners,
        data_source: Option<&str>,
    ) -> anyhow::Result<()> {
        let starting: Vec<_> = self
            .0
            .iter()
            .zip(services)
            .map(|(runtime, configured)| {
                let (http, grpc) = listeners.take(runtime.service);
                let data_source = data_source.map(str::to_owned);
                configured.start(Launch { runtime: runtime.clone(), http, grpc, data_source })
            })
            .collect();
        futures::future::try_join_all(starting).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_topic_has_an_owner_and_readers_among_the_services_that_hand_its_row() {
        let topics = topics(SERVICES).expect("tables that agree");
        assert!(topics.rows().len() > 1);
        for row in topics.rows() {
            let named = row.groups.iter().map(|group| group.service).chain([row.owner]);
            let named: BTreeSet<_> = named.collect();
            let handing = SERVICES.iter().filter(|spec| spec.topics.contains(row)).map(|spec| spec.name);
            let handing: BTreeSet<_> = handing.collect();
            assert!(named.is_subset(&handing), "{}: {named:?} use it, {handing:?} hand its row", row.name);
        }
    }
}
