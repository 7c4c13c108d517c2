//! A private Apache Kafka in `KRaft` mode, on loopback: one broker, or several for tests.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{process::Command, task::JoinSet};

use crate::{
    Discovery, Durability, Watch,
    core::{identity::KAFKA_MAIN, ports::fingerprint, properties::Broker},
    discovery::{Java, KafkaJars},
    error::{Error, ErrorContext},
    launch::{LaunchSpec, Ready, prepare},
    log::Log,
    ownership::mend_owner,
    ports, processes,
    run_as::{RunAs, remove_folder_if_there},
    supervisor::{End, Supervised},
};

const SERVER: &str = "Kafka";
const STOP: &[(Signal, Duration)] = &[(Signal::TERM, Duration::from_secs(12))];
const STOP_LEFTOVER: &[(Signal, Duration)] =
    &[(Signal::TERM, Duration::from_secs(12)), (Signal::KILL, Duration::from_secs(4))];
const REFUSALS: &[&str] = &["Failed to acquire lock on file .lock"];
const PORT_TAKEN: &str = "Address already in use";
/// How many ports are tried when another process takes the one that was free a moment ago.
const PORT_ATTEMPTS: u64 = 5;
const FORMAT_LIMIT: Duration = Duration::from_secs(60);
/// The serial collector and the first compiler alone keep the broker small: 150 MB with this heap. What
/// is used is compiled early, since a broker with little to do would be slow for its first hours: 25
/// messages to 11 partitions then take 50 ms more.
const JAVA_FLAGS: &[&str] = &[
    "-Xms96m",
    "-Xmx96m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:CompileThresholdScaling=0.05",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Djava.io.tmpdir=tmp",
    "-Dlog4j2.configurationFile=log4j2.properties",
];
/// A whole test run leaves a thousand topics on its broker, which the small heap does not hold. The
/// last of two such flags counts.
const TEST_HEAP: &str = "-Xmx256m";
const LOG_SETTINGS: &str = include_str!("../../../packaging/kafka/log4j2.properties");

/// A second listener, for clients that are to stay behind a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Proxied {
    /// The proxy's port on loopback, which the broker tells its clients.
    pub advertised: u16,
}

/// Two more listeners on `localhost`, for tests: one with TLS that wants a name and a password
/// (`SCRAM-SHA-512`), and one with TLS alone.
#[derive(Clone)]
pub struct Protected {
    /// The broker's key (PKCS#8) and its certificates, in PEM.
    pub keystore: String,
    /// Who may come in.
    pub username: String,
    /// What proves it. It is seen among the processes while the data folder is formatted.
    pub password: String,
}

impl std::fmt::Debug for Protected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Protected(…)")
    }
}

/// How to run it.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    discovery: Discovery,
    data_dir: PathBuf,
    durability: Durability,
    proxied: Option<Proxied>,
    protected: Option<Protected>,
    member: Option<Member>,
}

/// A broker's place among several.
#[derive(Clone, Debug)]
struct Member {
    node: usize,
    port: u16,
    voters: Vec<u16>,
    cluster: String,
}

impl KafkaOptions {
    /// A broker in `data_dir` (which [`crate::DataDir`] should hold), made when it is missing.
    #[must_use]
    pub fn new(discovery: &Discovery, data_dir: &Path, durability: Durability) -> Self {
        let (discovery, data_dir) = (discovery.clone(), data_dir.to_owned());
        Self { discovery, data_dir, durability, proxied: None, protected: None, member: None }
    }

    /// With a second listener behind a proxy.
    #[must_use]
    pub fn proxied(mut self, proxied: Proxied) -> Self {
        self.proxied = Some(proxied);
        self
    }

    /// With two listeners that are protected.
    #[must_use]
    pub fn protected(mut self, protected: Protected) -> Self {
        self.protected = Some(protected);
        self
    }

    fn folder_name(&self) -> String {
        self.member.as_ref().map_or_else(|| "kafka".to_owned(), |member| format!("kafka-{}", member.node))
    }
}

/// A broker that runs, and is started again on the same port when it dies. Dropping it kills it; the
/// next start recovers.
#[derive(Debug)]
pub struct Kafka {
    supervised: Supervised,
    ports: Ports,
}

/// Where it listens.
#[derive(Clone, Copy, Debug, Default)]
struct Ports {
    clients: u16,
    behind_proxy: Option<u16>,
    protected: Option<(u16, u16)>,
}

impl Kafka {
    /// Finds Java and the jars, formats the data folder if it is new, stops a broker that an earlier
    /// run left over, and starts on a free port.
    ///
    /// # Errors
    /// Every [`Error`] that is about Kafka.
    pub async fn start(options: KafkaOptions) -> Result<Self, Error> {
        let site = Site::prepare(&options).await?;
        site.format(&options).await?;
        let seed = fingerprint(site.folder.as_os_str().as_encoded_bytes());
        let mut attempt = 0;
        loop {
            let free = ports::free(seed.wrapping_add(attempt), 4)?;
            let ports = Ports {
                clients: options.member.as_ref().map_or(free[0], |member| member.port),
                behind_proxy: options.proxied.map(|_| free[1]),
                protected: options.protected.as_ref().map(|_| (free[2], free[3])),
            };
            site.write_settings(&options, ports)?;
            let spec = site.spec(options.durability);
            attempt += 1;
            match Supervised::start(spec).await {
                Ok(supervised) => return Ok(Self { supervised, ports }),
                // No client knows the port yet, so another will do.
                Err(Error::EndedAtStart { tail, .. }) if tail.contains(PORT_TAKEN) && attempt < PORT_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where clients find it, `127.0.0.1:PORT`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.clients)
    }

    /// Where the proxy finds the listener behind it.
    #[must_use]
    pub fn behind_proxy(&self) -> Option<String> {
        self.ports.behind_proxy.map(|port| format!("127.0.0.1:{port}"))
    }

    /// Where clients find the listener with TLS that wants a name and a password, and the one with
    /// TLS alone.
    #[must_use]
    pub fn protected(&self) -> Option<(String, String)> {
        self.ports.protected.map(|(sasl, tls)| (format!("localhost:{sasl}"), format!("localhost:{tls}")))
    }

    /// A [`Watch`] on its state, its pid and its end.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.supervised.watch().clone()
    }

    /// Its process; `None` while it is started again.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.supervised.watch().pid()
    }

    /// Stops it within 15 s at most; usually in half a second.
    pub async fn stop(self) {
        self.supervised.end(End::Stop).await;
    }

    /// Ends it as a power cut would, and waits for that.
    pub async fn kill(self) {
        self.supervised.end(End::Kill).await;
    }
}

/// The settings file of a broker, which is also what it is known by among the processes.
pub(crate) fn properties_of(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join(name).join("server.properties")
}

/// Stops the broker that an earlier run left in `data_dir`, if one runs.
pub(crate) async fn stop_orphan(data_dir: &Path, name: &str) -> Result<(), Error> {
    let properties = properties_of(data_dir, name);
    processes::stop(SERVER, STOP_LEFTOVER, |line| line.is_kafka_of(&properties)).await
}

/// Everything a broker needs before it has a port.
struct Site {
    run_as: RunAs,
    java: Java,
    jars: KafkaJars,
    folder: PathBuf,
    properties: PathBuf,
    log: PathBuf,
}

impl Site {
    async fn prepare(options: &KafkaOptions) -> Result<Self, Error> {
        let java = options.discovery.java().await?;
        let jars = options.discovery.kafka()?;
        let run_as = RunAs::find()?;
        let name = options.folder_name();
        run_as.make_folder(&options.data_dir.join(&name))?;
        let data_dir = options.data_dir.canonicalize().context(|| format!("find {}", options.data_dir.display()))?;
        let folder = data_dir.join(&name);
        run_as.check_reaches(&folder.join("data"))?;
        let program = java.program.canonicalize().context(|| format!("find {}", java.program.display()))?;
        run_as.check_reaches(&program)?;
        let (reader, shared) = (run_as.clone(), options.discovery.shared_cache.clone());
        let within_reach = tokio::task::spawn_blocking(move || jars.within_reach(&reader, &shared)).await;
        let jars = within_reach.context(|| "look at Kafka's jars".to_owned())??;
        let properties = properties_of(&data_dir, &name);
        stop_orphan(&data_dir, &name).await?;
        run_as.write(&folder.join("log4j2.properties"), LOG_SETTINGS)?;
        run_as.make_folder(&folder.join("tmp"))?;
        mend_owner(&run_as, &folder.join("data"))?;
        let log = data_dir.join("logs").join(format!("{name}.log"));
        Ok(Self { run_as, java, jars, folder, properties, log })
    }

    /// Formats the data folder beside its place and renames it, so that an interrupted start leaves
    /// none that is half made. Each has a cluster id of its own: a client of another is refused.
    async fn format(&self, options: &KafkaOptions) -> Result<(), Error> {
        if self.folder.join("data/meta.properties").exists() {
            return Ok(());
        }
        remove_folder_if_there(&self.folder.join("data.new"))?;
        let settings = self.broker(options, Ports::default()).properties("data.new");
        self.run_as.write(&self.folder.join("format.properties"), &settings)?;
        let cluster = options.member.as_ref().map_or_else(new_cluster_id, |member| member.cluster.clone());
        let mut command = Command::new(&self.java.program);
        command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]);
        command.arg("-Dlog4j2.configurationFile=log4j2.properties").arg("-cp").arg(self.jars.class_path());
        command.args(["kafka.tools.StorageTool", "format", "-c", "format.properties", "-t", &cluster]);
        if options.member.is_none() {
            command.arg("--standalone");
        }
        if let Some(Protected { keystore, username, password }) = &options.protected {
            self.run_as.write(&self.folder.join("keystore.pem"), keystore)?;
            command.args(["--add-scram", &format!("SCRAM-SHA-512=[name={username},password={password}]")]);
        }
        command.current_dir(&self.folder);
        tracing::info!("formatting a Kafka data folder in {}", self.folder.display());
        prepare("Kafka's format", &self.run_as, command, FORMAT_LIMIT).await?;
        let context = || format!("put the formatted folder into {}", self.folder.display());
        fs::rename(self.folder.join("data.new"), self.folder.join("data")).context(context)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).context(context)
    }

    fn broker(&self, options: &KafkaOptions, ports: Ports) -> Broker {
        let Ports { clients: port, behind_proxy, protected } = ports;
        let proxied = options.proxied.and_then(|proxied| Some((behind_proxy?, proxied.advertised)));
        let (node, voters) = options.member.as_ref().map_or((1, Vec::new()), |m| (m.node, m.voters.clone()));
        Broker { node, port, proxied, protected, voters, durability: options.durability }
    }

    fn write_settings(&self, options: &KafkaOptions, ports: Ports) -> Result<(), Error> {
        self.run_as.write(&self.properties, &self.broker(options, ports).properties("data"))
    }

    fn spec(&self, durability: Durability) -> LaunchSpec {
        let mut arguments: Vec<OsString> = JAVA_FLAGS.iter().map(OsString::from).collect();
        if durability == Durability::ForTests {
            arguments.push(TEST_HEAP.into());
        }
        let archive = self.jars.archive(&self.java);
        if archive.exists() {
            let mut flag = OsString::from("-XX:SharedArchiveFile=");
            flag.push(&archive);
            arguments.push(flag);
        }
        arguments.extend(["-cp".into(), self.jars.class_path(), KAFKA_MAIN.into(), self.properties.clone().into()]);
        let (run_as, folder) = (self.run_as.clone(), self.folder.clone());
        let before = Box::new(move || {
            // Libraries that a killed broker unpacked.
            remove_folder_if_there(&folder.join("tmp"))?;
            run_as.make_folder(&folder.join("tmp"))
        });
        LaunchSpec {
            server: SERVER,
            run_as: self.run_as.clone(),
            program: self.java.program.clone(),
            arguments,
            // One arena for small allocations instead of one a thread.
            environment: vec![("MALLOC_ARENA_MAX", "1".into())],
            folder: self.folder.clone(),
            log: Log::at(self.log.clone()),
            ready: Ready::LogLine("Kafka Server started"),
            refusals: REFUSALS,
            stop: STOP,
            quick_end: Signal::KILL,
            before,
        }
    }
}

/// A cluster id as Kafka reads it: 22 digits of base 64, of which these are some.
fn new_cluster_id() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(22).collect()
}

/// Several brokers that are one cluster, for tests. None is started again by itself: tests kill and
/// restart them.
#[derive(Debug)]
pub struct KafkaCluster {
    options: Vec<KafkaOptions>,
    brokers: Vec<Option<Kafka>>,
}

impl KafkaCluster {
    /// Starts `count` brokers in `data_dir`.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub async fn start(discovery: &Discovery, data_dir: &Path, count: usize) -> Result<Self, Error> {
        let seed = fingerprint(data_dir.as_os_str().as_encoded_bytes());
        let ports = ports::free(seed, 2 * count)?;
        let (clients, voters) = ports.split_at(count);
        let cluster = new_cluster_id();
        let member = |(index, port): (usize, &u16)| {
            let member = Member { node: index + 1, port: *port, voters: voters.to_vec(), cluster: cluster.clone() };
            KafkaOptions { member: Some(member), ..KafkaOptions::new(discovery, data_dir, Durability::ForTests) }
        };
        let options: Vec<_> = clients.iter().enumerate().map(member).collect();
        // All at once: a broker is ready only when most of them are there.
        let mut starting = JoinSet::new();
        for (index, options) in options.iter().cloned().enumerate() {
            starting.spawn(async move { (index, Kafka::start(options).await) });
        }
        let mut brokers: Vec<Option<Kafka>> = options.iter().map(|_| None).collect();
        while let Some(started) = starting.join_next().await {
            let (index, broker) = started.context(|| "start a broker".to_owned())?;
            brokers[index] = Some(broker?);
        }
        Ok(Self { options, brokers })
    }

    /// Where clients find the brokers.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let members = self.options.iter().filter_map(|options| options.member.as_ref());
        members.map(|member| format!("127.0.0.1:{}", member.port)).collect::<Vec<_>>().join(",")
    }

    /// The process of a broker, counted from 0; `None` when it is down.
    #[must_use]
    pub fn pid(&self, index: usize) -> Option<u32> {
        self.brokers.get(index)?.as_ref()?.pid()
    }

    /// Kills a broker with SIGKILL. It stays down until [`KafkaCluster::restart`].
    pub async fn kill(&mut self, index: usize) {
        if let Some(broker) = self.brokers.get_mut(index).and_then(Option::take) {
            broker.kill().await;
        }
    }

    /// Starts a killed broker again on its ports, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub async fn restart(&mut self, index: usize) -> Result<(), Error> {
        self.kill(index).await;
        if let Some(options) = self.options.get(index).cloned() {
            self.brokers[index] = Some(Kafka::start(options).await?);
        }
        Ok(())
    }

    /// Stops what still runs. All at once: the last ones would wait for a majority that has gone.
    pub async fn stop(self) {
        let mut stopping = JoinSet::new();
        for broker in self.brokers.into_iter().flatten() {
            stopping.spawn(broker.stop());
        }
        stopping.join_all().await;
    }
}
