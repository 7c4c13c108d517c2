//! Servers that a test run, or one test, has for itself.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use anyhow::Context;
use local_servers::{
    Discovery, Durability, KafkaCluster, KafkaOptions, Postgres, PostgresOptions, Protected, Proxied, Watch,
};
use runtime::config::{ProcessEnv, Vars};
use rustix::process::{Pid, Signal, kill_process};

use crate::{authority::Authority, watchdog::Folder};

/// The places of this machine, out of the environment.
///
/// # Errors
/// When there is neither `HOME` nor `XDG_CACHE_HOME`.
pub(crate) fn discovery() -> anyhow::Result<Discovery> {
    let folder = |key| ProcessEnv.get(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let path = ProcessEnv.get("PATH").unwrap_or_default();
    Ok(Discovery::new(path.into(), folder("JAVA_HOME"), folder("KAFKA_HOME"), cache.context("HOME is not set")?))
}

/// Where a Kafka and a PostgreSQL are.
#[derive(Clone, Debug)]
pub struct Servers {
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// PostgreSQL's address.
    pub postgres: SocketAddr,
}

impl Servers {
    /// The URL of a database.
    #[must_use]
    pub fn database_url(&self, name: &str) -> String {
        format!("postgres://postgres@{}/{name}", self.postgres)
    }
}

/// One Kafka and one PostgreSQL.
#[derive(Debug)]
pub struct OwnServers {
    kafka: local_servers::Kafka,
    postgres: Postgres,
    postgres_addr: SocketAddr,
    // Last: what it ends and removes is in use before.
    _folder: Folder,
}

impl OwnServers {
    /// Starts both at once, in a temporary folder.
    ///
    /// # Errors
    /// Whatever [`local_servers::Error`] says.
    pub async fn start() -> anyhow::Result<Self> {
        let (discovery, folder) = (discovery()?, Folder::watched().context("make a folder for the servers")?);
        let kafka = KafkaOptions::new(&discovery, folder.path(), Durability::ForTests);
        let postgres = PostgresOptions::new(&discovery, folder.path(), Durability::ForTests).also_on_loopback();
        let (kafka, postgres) = tokio::try_join!(local_servers::Kafka::start(kafka), Postgres::start(postgres))?;
        let postgres_addr = postgres.loopback().context("PostgreSQL has no port")?;
        Ok(Self { kafka, postgres, postgres_addr, _folder: folder })
    }

    /// Where they are.
    #[must_use]
    pub fn addresses(&self) -> Servers {
        Servers { kafka: self.kafka.bootstrap(), postgres: self.postgres_addr }
    }

    /// Stops both and removes the folder.
    pub async fn stop(self) {
        tokio::join!(self.kafka.stop(), self.postgres.stop());
    }
}

/// A broker that no other test uses.
#[derive(Debug)]
pub struct Kafka {
    /// Its bootstrap servers.
    pub bootstrap: String,
    server: local_servers::Kafka,
    _folder: Folder,
}

/// A broker of this test's own; it goes when the answer is dropped.
pub async fn lone_kafka() -> Kafka {
    start_kafka(|options| options).await
}

/// A broker of this test's own, whose second listener tells its clients to come back by way of
/// `port` on loopback, where the test's proxy listens. [`Kafka::behind_proxy`] is where that leads to.
pub async fn kafka_behind(port: u16) -> Kafka {
    start_kafka(|options| options.proxied(Proxied { advertised: port })).await
}

/// A broker of this test's own with protected listeners, for those who trust `authority` and know
/// name and password.
pub async fn protected_kafka(authority: &Authority, username: &str, password: &str) -> Kafka {
    let (username, password) = (username.to_owned(), password.to_owned());
    let keystore = authority.keystore_of("localhost");
    start_kafka(|options| options.protected(Protected { keystore, username, password })).await
}

async fn start_kafka(with: impl FnOnce(KafkaOptions) -> KafkaOptions) -> Kafka {
    let folder = Folder::watched().expect("a folder");
    let options = KafkaOptions::new(&discovery().expect("places"), folder.path(), Durability::ForTests);
    let server = local_servers::Kafka::start(with(options)).await.unwrap_or_else(|error| panic!("{error}"));
    Kafka { bootstrap: server.bootstrap(), server, _folder: folder }
}

impl Kafka {
    /// Stops the broker's process where it stands, until the answer is dropped.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        Frozen::freeze(self.server.pid().expect("a running broker"))
    }

    /// Kills the broker with SIGKILL; it is started again on the same port.
    pub fn kill(&self) {
        let pid = self.server.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).expect("a running broker");
        kill_process(pid, Signal::KILL).expect("killed");
    }

    /// Where a proxy finds the second listener.
    #[must_use]
    pub fn behind_proxy(&self) -> Option<SocketAddr> {
        self.server.behind_proxy()?.parse().ok()
    }

    /// Where the listener is that wants TLS, a name and a password, and the one that wants TLS alone.
    #[must_use]
    pub fn protected(&self) -> Option<(String, String)> {
        self.server.protected()
    }

    /// Knows the broker's process; killed, it is started again.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.server.watch()
    }
}

/// A server that stands still, with the processes it forked, until this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<Pid>);

impl Frozen {
    /// Stops a server where it stands.
    #[must_use]
    pub fn freeze(pid: u32) -> Self {
        let pid_of = |pid: &str| pid.parse().ok().and_then(Pid::from_raw);
        let stop = |pid: Pid| kill_process(pid, Signal::STOP);
        let server = pid_of(&pid.to_string()).expect("a pid");
        stop(server).expect("frozen");
        // PostgreSQL has a process for each client, which goes on without the first. No more are forked now.
        let forked = forks_of(pid).into_iter().filter_map(|pid| pid_of(&pid));
        // An error says that one has ended meanwhile.
        let forked = forked.filter(|pid| stop(*pid).is_ok());
        Self(std::iter::once(server).chain(forked).collect())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            // An error says that it was killed meanwhile.
            kill_process(*pid, Signal::CONT).unwrap_or_default();
        }
    }
}

/// The processes that `pid` forked: Linux tells them in a file, others by a program.
fn forks_of(pid: u32) -> Vec<String> {
    let told = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_else(|_| {
        let asked = Command::new("pgrep").arg("-P").arg(pid.to_string()).output().expect("pgrep runs");
        String::from_utf8_lossy(&asked.stdout).into_owned()
    });
    told.split_whitespace().map(str::to_owned).collect()
}

/// Brokers that are one cluster, of this test's own.
#[derive(Debug)]
pub struct Cluster {
    /// The brokers: tests kill and restart them.
    pub brokers: KafkaCluster,
    _folder: Folder,
}

/// So many brokers; they go when the answer is dropped.
pub async fn kafka_cluster(count: usize) -> Cluster {
    let folder = Folder::watched().expect("a folder");
    let brokers = KafkaCluster::start(&discovery().expect("places"), folder.path(), count).await;
    Cluster { brokers: brokers.unwrap_or_else(|error| panic!("{error}")), _folder: folder }
}
