use anyhow::{Context, anyhow, bail};
use local_servers::{DataDir, Discovery, Durability, Error, Kafka, KafkaOptions, Postgres, PostgresOptions, Watch};
use service::ServiceSpec;
use tokio_util::sync::CancellationToken;

use crate::{
    services::{ServiceAddrs, ServiceList},
    settings::{Addresses, ExternalServers},
};

/// The private servers: those that the operator did not name.
pub(super) struct Servers {
    postgres: Option<Postgres>,
    kafka: Option<Kafka>,
}

impl Servers {
    /// Prepares and starts what is private, both at once.
    pub(super) async fn start(
        services: ServiceList,
        external: &ExternalServers,
        discovery: &Discovery,
        data: &DataDir,
    ) -> anyhow::Result<Self> {
        look_for_programs(external, discovery, data).await?;
        let postgres = async {
            if external.databases.is_some() {
                return Ok(None);
            }
            tracing::info!("starting a private PostgreSQL");
            postgres(services, discovery, data).await.map(Some)
        };
        let kafka = async {
            if external.kafka.is_some() {
                return Ok(None);
            }
            tracing::info!("starting a private Kafka");
            Kafka::start(KafkaOptions::new(discovery, data.path(), Durability::Durable)).await.map(Some)
        };
        // Both are waited for, so that each is stopped in order when only the other failed.
        let (postgres, kafka) = tokio::join!(postgres, kafka);
        match (postgres, kafka) {
            (Ok(postgres), Ok(kafka)) => Ok(Self { postgres, kafka }),
            (Err(error), kafka) => {
                Self { postgres: None, kafka: kafka.unwrap_or_default() }.stop().await;
                Err(error).context("run a private PostgreSQL")
            }
            (postgres, Err(error)) => {
                Self { postgres: postgres.unwrap_or_default(), kafka: None }.stop().await;
                Err(error).context("run a private Kafka")
            }
        }
    }

    /// Where they are; what is not private is left empty, for [`ExternalServers::filled`].
    pub(super) fn addresses(&self, services: ServiceList, grpc: ServiceAddrs) -> Addresses {
        let url = |spec: &ServiceSpec| {
            let url = self.postgres.as_ref()?.url(&spec.database_name()?);
            Some((spec.name, url.into()))
        };
        Addresses {
            databases: services.iter().filter_map(|spec| url(spec)).collect(),
            kafka: self.kafka.as_ref().map(Kafka::bootstrap).unwrap_or_default(),
            kafka_is_private: self.kafka.is_some(),
            grpc,
        }
    }

    /// Ends when `stopping`, or with an error when a server died too often.
    pub(super) fn watch(&self, stopping: CancellationToken) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let watches = self.watches();
        async move {
            let failures = watches.iter().map(|watch| Box::pin(watch.failed())).collect::<Vec<_>>();
            let failed = async {
                if failures.is_empty() {
                    return std::future::pending().await;
                }
                futures::future::select_all(failures).await.0
            };
            tokio::select! {
                () = stopping.cancelled() => Ok(()),
                error = failed => Err(anyhow!(error)),
            }
        }
    }

    /// Ends them at once, for a process that cannot wait any more: what was acknowledged is kept.
    pub(super) fn ender(&self) -> impl Fn() + Send + Sync + use<> {
        let watches = self.watches();
        move || watches.iter().for_each(Watch::kill_now)
    }

    fn watches(&self) -> Vec<Watch> {
        self.postgres.iter().map(Postgres::watch).chain(self.kafka.iter().map(Kafka::watch)).collect()
    }

    /// Kafka first, then PostgreSQL.
    pub(super) async fn stop(self) {
        if let Some(kafka) = self.kafka {
            tracing::info!("stopping Kafka");
            kafka.stop().await;
        }
        if let Some(postgres) = self.postgres {
            tracing::info!("stopping PostgreSQL");
            postgres.stop().await;
        }
    }
}

/// What the machine lacks, told at once and before anything is made.
async fn look_for_programs(external: &ExternalServers, discovery: &Discovery, data: &DataDir) -> anyhow::Result<()> {
    let cluster = data.path().join("postgres/data");
    let (postgres, java) = tokio::join!(discovery.postgres(Some(&cluster)), discovery.java());
    let postgres = postgres.err().filter(|_| external.databases.is_none());
    let kafka = [java.err(), discovery.kafka().err()].into_iter().flatten().filter(|_| external.kafka.is_none());
    let missing: Vec<_> = postgres.into_iter().chain(kafka).map(|error| format!("\n  - {error}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine cannot run the private servers (`flightbell doctor` looks further):{}", missing.concat());
}

async fn postgres(services: ServiceList, discovery: &Discovery, data: &DataDir) -> Result<Postgres, Error> {
    let postgres = Postgres::start(PostgresOptions::new(discovery, data.path(), Durability::Durable)).await?;
    for name in services.iter().filter_map(|spec| spec.database_name()) {
        postgres.create_database(&name).await?;
    }
    Ok(postgres)
}
