//! Every service in one process: the same `start` that each one's own binary calls.

use std::net::SocketAddr;

use anyhow::Context;
use http::uri::Authority;
use shell::{Process, Shell, clock::Clock, listen::Listen};

use crate::{gateway::Upstreams, settings::Services};

/// The listeners of the services, bound before any service starts, since each is told the others'
/// addresses.
pub struct Listeners {
    user_manager_http: Listen,
    user_manager_grpc: Listen,
    data_collector_http: Listen,
    data_collector_grpc: Listen,
    notifier_grpc: Listen,
}

/// The gRPC addresses of [`Listeners`].
#[derive(Clone, Copy, Debug)]
pub struct GrpcAddresses {
    /// user-manager's.
    pub user_manager: SocketAddr,
    /// data-collector's.
    pub data_collector: SocketAddr,
    /// notifier's.
    pub notifier: SocketAddr,
}

/// The clocks of the services: all the system's, except in a replay.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Of what is watched: collection, and the age of data.
    pub flights: Clock,
}

/// One shell a service, in the order user-manager, data-collector, alert-system, notifier.
pub struct Shells {
    user_manager: Shell,
    data_collector: Shell,
    alert_system: Shell,
    notifier: Shell,
}

impl Listeners {
    /// Binds free ports on the loopback interface.
    ///
    /// # Errors
    /// When no port is free.
    pub fn bind() -> anyhow::Result<Self> {
        let bind = || Listen::on_loopback().context("bind a free loopback port");
        Ok(Self {
            user_manager_http: bind()?,
            user_manager_grpc: bind()?,
            data_collector_http: bind()?,
            data_collector_grpc: bind()?,
            notifier_grpc: bind()?,
        })
    }

    /// Where gRPC will be answered.
    ///
    /// # Errors
    /// When a listener's address cannot be read.
    pub fn grpc(&self) -> anyhow::Result<GrpcAddresses> {
        let addr = |listen: &Listen| listen.addr().context("read a listener's address");
        Ok(GrpcAddresses {
            user_manager: addr(&self.user_manager_grpc)?,
            data_collector: addr(&self.data_collector_grpc)?,
            notifier: addr(&self.notifier_grpc)?,
        })
    }

    /// Where HTTP will be answered, for the gateway.
    ///
    /// # Errors
    /// When a listener's address cannot be read.
    pub fn upstreams(&self) -> anyhow::Result<Upstreams> {
        let authority = |listen: &Listen| -> anyhow::Result<Authority> {
            let addr = listen.addr().context("read a listener's address")?;
            addr.to_string().parse().context("write a listener's address")
        };
        Ok(Upstreams::new([
            ("user-manager".to_owned(), authority(&self.user_manager_http)?),
            ("data-collector".to_owned(), authority(&self.data_collector_http)?),
        ]))
    }
}

impl Shells {
    /// A shell for each service of `process`.
    pub fn of(process: &mut Process, clocks: Clocks) -> Self {
        Self {
            user_manager: process.shell("user-manager", Clock::system()),
            data_collector: process.shell("data-collector", clocks.flights),
            alert_system: process.shell("alert-system", Clock::system()),
            notifier: process.shell("notifier", clocks.flights),
        }
    }

    /// Starts every service and waits until each has what it depends on.
    ///
    /// # Errors
    /// The first that cannot start, named.
    pub async fn start(&self, mut services: Services, listeners: Listeners) -> anyhow::Result<()> {
        services.user_manager.http_addr = listeners.user_manager_http;
        services.user_manager.grpc_addr = listeners.user_manager_grpc;
        services.data_collector.http = listeners.data_collector_http;
        services.data_collector.grpc = listeners.data_collector_grpc;
        services.notifier.grpc = listeners.notifier_grpc;
        tokio::try_join!(
            named("user-manager", user_manager::start(services.user_manager, &self.user_manager)),
            named("data-collector", data_collector::start(services.data_collector, &self.data_collector)),
            named("alert-system", alert_system::start(services.alert_system, &self.alert_system)),
            named("notifier", notifier::start(services.notifier, &self.notifier)),
        )?;
        Ok(())
    }
}

async fn named<T>(service: &str, starting: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    starting.await.with_context(|| format!("start {service}"))
}
