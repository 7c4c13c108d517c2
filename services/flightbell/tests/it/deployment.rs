//! Every service as a process of its own, on a PostgreSQL and a Kafka of the test's own, between the
//! simulators for OpenSky and Telegram.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use local_servers::{Discovery, Durability, Kafka, KafkaCluster, KafkaOptions, Postgres, PostgresOptions};
use rustix::process::Signal;
use serde_json::{Value, json};
use simulators::{
    opensky::{self, Budget, OpenSky, Scripted, Source},
    system_clock,
    telegram::{self, Page, Telegram},
};
use sqlx::{Connection, PgConnection};
use testkit::{Folder, Frozen, Process};
use tokio_util::sync::CancellationToken;

use crate::program::{self, PATIENCE};

/// The services, in the order in which they are started.
pub const SERVICES: [&str; 4] = ["user-manager", "data-collector", "alert-system", "notifier"];

/// Every process of a deployment: the services, and the gateway before them.
pub const PROCESSES: [&str; 5] = ["user-manager", "data-collector", "alert-system", "notifier", GATEWAY];

const GATEWAY: &str = "gateway";

/// Paris, where the aircraft of these tests are.
pub const LFPG: (f64, f64) = (49.0128, 2.55);

/// Where the private servers' programs are on this machine.
pub fn discovery() -> Discovery {
    let variable = |key: &str| runtime::config::Vars::get(&runtime::config::ProcessEnv, key);
    let home = variable("HOME").map(PathBuf::from).expect("a home");
    let cache = variable("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let path = variable("PATH").unwrap_or_default();
    Discovery::new(path.into(), variable("JAVA_HOME").map(Into::into), variable("KAFKA_HOME").map(Into::into), cache)
}

/// A folder that the servers' user can pass through, and that goes with whatever still runs on it.
pub fn folder() -> Folder {
    Folder::watched().expect("a folder")
}

/// The traffic over Paris, and the chat: what a test changes and looks at.
pub struct TestEnv {
    pub traffic: Scripted,
    pub open_sky: OpenSky,
    pub telegram: Telegram,
}

impl TestEnv {
    pub async fn new() -> Self {
        let stopping = CancellationToken::new();
        let traffic = Scripted::new();
        let options = opensky::Options {
            // So many credits that an airport is collected as often as the settings allow.
            budget: Budget { signed_in: 50_000_000, anonymous: 50_000_000 },
            ..opensky::Options::new(system_clock())
        };
        let open_sky = OpenSky::start(options, Source::Scripted(traffic.clone()), &stopping).await.expect("a snapshot");
        let telegram = Telegram::start(telegram::Options::new(Page::plain()), &stopping).await.expect("a chat");
        Self { traffic, open_sky, telegram }
    }

    /// So many aircraft around Paris from now on.
    pub fn aircraft(&self, count: u32) {
        self.traffic.set_aircraft("paris", LFPG.0, LFPG.1, count);
    }

    /// What a service or `up` is told about the outside.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OPEN_SKY_API_URL", self.open_sky.api_url()),
            ("OPEN_SKY_TOKEN_URL", self.open_sky.token_url()),
            ("OPEN_SKY_CLIENT_ID", "flightbell".to_owned()),
            ("OPEN_SKY_CLIENT_SECRET", "simulator".to_owned()),
            ("COLLECT_INTERVAL_SECONDS", "1".to_owned()),
            ("TELEGRAM_API_URL", self.telegram.url()),
            ("TELEGRAM_BOT_TOKEN", self.telegram.token().to_owned()),
            ("RUST_LOG", "info".to_owned()),
        ]
    }

    /// So many aircraft from now on; returns once data-collector has stored a reading of them.
    pub async fn is_read(&self, client: &reqwest::Client, base: &str, count: u32) {
        self.aircraft(count);
        let url = format!("{base}/data-collector/readings/LFPG?metric=live&limit=1");
        testkit::wait_for("a live reading", PATIENCE, async || {
            let Ok(answer) = client.get(&url).send().await else { return false };
            let newest: Value = answer.json().await.unwrap_or_default();
            newest[0]["value"] == count
        })
        .await;
    }

    /// The texts in the chat, once `enough` holds of them.
    pub async fn texts(&self, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let texts = |sent: &[telegram::Sent]| -> Vec<String> {
            sent.iter().filter(|sent| sent.is_in_chat()).map(|sent| sent.shown.clone()).collect()
        };
        let sent = self.telegram.wait_for(PATIENCE, |sent| enough(&texts(sent))).await;
        texts(&sent.expect("the messages arrive"))
    }
}

/// `flightbell up` on a folder, with the environment around it and `more` in its environment; ready, with
/// its address.
pub async fn up(env: &TestEnv, folder: &Path, more: &[(&'static str, String)]) -> (Process, String) {
    let mut environment = env.environment();
    environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
    environment.extend(more.iter().cloned());
    let folder = folder.display().to_string();
    let arguments = ["up", "--data-dir", folder.as_str(), "--listen", "127.0.0.1:0"];
    let mut program = program::start("flightbell", &arguments, &environment).await;
    let base = program.says("ready ").await;
    (program, base)
}

/// A client that trusts the certificate a gateway made.
pub async fn client(certificate: &Path) -> reqwest::Client {
    runtime::choose_tls();
    let pem = tokio::fs::read(certificate).await.expect("the certificate");
    let certificate = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([certificate]).timeout(Duration::from_secs(20));
    client.build().expect("a client")
}

/// A user with a chat who watches Paris, set up through the public API.
pub async fn register(client: &reqwest::Client, base: &str, email: &str, chat_id: i64, interest: Value) {
    let user = json!({"email": email, "first_name": "Ada", "last_name": "Lovelace"});
    assert_eq!(post(client, &format!("{base}/user-manager/users"), &user).await, 201);
    let chat = json!({"email": email, "telegram_chat_id": chat_id});
    assert_eq!(post(client, &format!("{base}/user-manager/users/telegram"), &chat).await, 200);
    let mut interest = interest;
    interest["email"] = email.into();
    assert_eq!(post(client, &format!("{base}/data-collector/interests"), &interest).await, 201);
}

/// Posts until the service is there to answer; the status of its answer.
pub async fn post(client: &reqwest::Client, url: &str, body: &Value) -> u16 {
    let key = uuid::Uuid::now_v7().to_string();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = client.post(url).header("Idempotency-Key", &key).json(body).send().await;
        match answer {
            Ok(answer) if answer.status() != 503 => return answer.status().as_u16(),
            other => assert!(tokio::time::Instant::now() < deadline, "{url} does not answer: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until every alert in a ledger is settled; the ledger itself may be away for a while.
pub async fn is_settled(ledger: &str) {
    let pending = async || -> Result<i64, sqlx::Error> {
        let mut connection = PgConnection::connect(ledger).await?;
        let pending = sqlx::query_scalar("SELECT count(*) FROM alerts WHERE status = 'pending'");
        let pending = pending.fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(pending)
    };
    testkit::wait_for("everything to be settled", PATIENCE, async || pending().await.is_ok_and(|count| count == 0))
        .await;
}

/// The Kafka of a deployment.
pub enum Brokers {
    One(Kafka),
    /// Everything three times.
    Three(KafkaCluster),
}

impl Brokers {
    fn bootstrap(&self) -> String {
        match self {
            Self::One(kafka) => kafka.bootstrap(),
            Self::Three(cluster) => cluster.bootstrap(),
        }
    }

    async fn stop(self) {
        match self {
            Self::One(kafka) => kafka.stop().await,
            Self::Three(cluster) => cluster.stop().await,
        }
    }
}

/// The services as processes.
pub struct Deployment {
    pub env: Arc<TestEnv>,
    pub brokers: Brokers,
    pub postgres: Postgres,
    pub base: String,
    pub client: reqwest::Client,
    pub ports: Ports,
    programs: Vec<Option<Process>>,
    environments: Vec<Vec<(&'static str, String)>>,
    pub folder: Folder,
}

impl Deployment {
    pub async fn build() -> Self {
        Self::empty(Durability::ForTests, &[("KAFKA_PARTITIONS", "3".to_owned())]).await.started().await
    }

    /// With three brokers that hold everything three times, so that one may die.
    pub async fn build_on_three_brokers() -> Self {
        let (folder, discovery) = (folder(), discovery());
        let cluster = KafkaCluster::start(&discovery, folder.path(), 3).await.expect("three brokers");
        let more = [("KAFKA_PARTITIONS", "3".to_owned()), ("KAFKA_REPLICATION", "3".to_owned())];
        Self::empty_on(Brokers::Three(cluster), folder, Durability::ForTests, &more).await.started().await
    }

    /// Servers of that kind, and a gateway. No service runs yet; each will have `more` in its environment.
    pub async fn empty(durability: Durability, more: &[(&'static str, String)]) -> Self {
        let (folder, discovery) = (folder(), discovery());
        let kafka = Kafka::start(KafkaOptions::new(&discovery, folder.path(), durability)).await.expect("a Kafka");
        Self::empty_on(Brokers::One(kafka), folder, durability, more).await
    }

    async fn empty_on(
        brokers: Brokers,
        folder: Folder,
        durability: Durability,
        more: &[(&'static str, String)],
    ) -> Self {
        let env = Arc::new(TestEnv::new().await);
        let postgres = PostgresOptions::new(&discovery(), folder.path(), durability).also_on_loopback();
        let postgres = Postgres::start(postgres).await.expect("a PostgreSQL");
        let ports = Ports::choose();
        let mut environments = Vec::new();
        for service in SERVICES {
            let database = service.replace('-', "_");
            postgres.create_database(&database).await.expect("a database");
            let mut own = ports.environment(service, &env, &postgres.url(&database), &brokers.bootstrap());
            own.extend(more.iter().cloned());
            environments.push(own);
        }
        environments.push(vec![("ADMIN_ADDR", "127.0.0.1:0".to_owned())]);
        let mut gateway = ports.start_gateway(folder.path(), &environments[SERVICES.len()]).await;
        let base = gateway.says("ready ").await;
        let client = client(&folder.path().join("tls/cert.pem")).await;
        let mut programs: Vec<_> = SERVICES.iter().map(|_| None).collect();
        programs.push(Some(gateway));
        Self { env, brokers, postgres, base, client, ports, programs, environments, folder }
    }

    async fn started(mut self) -> Self {
        self.start_services().await;
        self
    }

    /// Starts every service.
    pub async fn start_services(&mut self) {
        for service in SERVICES {
            self.start(service).await;
        }
    }

    fn index(service: &str) -> usize {
        PROCESSES.iter().position(|known| *known == service).expect("a process of the deployment")
    }

    pub async fn start(&mut self, service: &'static str) {
        self.start_with(service, &[]).await;
    }

    /// Starts a service with more in its environment.
    pub async fn start_with(&mut self, service: &'static str, more: &[(&'static str, String)]) {
        let index = Self::index(service);
        let environment: Vec<_> = self.environments[index].iter().chain(more).cloned().collect();
        self.programs[index] = Some(match service {
            GATEWAY => self.ports.start_gateway(self.folder.path(), &environment).await,
            _ => program::start(service, &[], &environment).await,
        });
    }

    pub fn program(&mut self, service: &str) -> &mut Process {
        self.programs[Self::index(service)].as_mut().expect("it runs")
    }

    pub async fn kill(&mut self, service: &'static str) {
        let program = self.programs[Self::index(service)].take();
        program.expect("it runs").kill().await;
    }

    /// The texts in one chat, in their order, once there are so many.
    pub async fn texts_of(&self, chat_id: i64, count: usize) -> Vec<String> {
        let texts = |sent: &[telegram::Sent]| -> Vec<String> {
            let of_chat = sent.iter().filter(|sent| sent.is_in_chat() && sent.chat_id == chat_id);
            of_chat.map(|sent| sent.shown.clone()).collect()
        };
        let sent = self.env.telegram.wait_for(2 * PATIENCE, |sent| texts(sent).len() >= count).await;
        match sent {
            Ok(sent) => texts(&sent),
            Err(_) => panic!("chat {chat_id} gets no {count} messages, but {:#?}", texts(&self.env.telegram.sent())),
        }
    }

    /// Waits until nothing in the ledger is under way: from then on a death repeats nothing.
    pub async fn settled(&self) {
        is_settled(&self.postgres.url("notifier")).await;
    }

    /// SIGTERM for every service at once: how long each took to end, and its exit code.
    pub async fn terminate(&mut self) -> Vec<(&'static str, Duration, i32)> {
        let begun = Instant::now();
        let services = self.programs.iter_mut().zip(SERVICES).filter_map(|(program, service)| {
            let mut program = program.take()?;
            program.signal(Signal::TERM);
            Some(async move {
                let code = program.code().await;
                (service, begun.elapsed(), code)
            })
        });
        futures::future::join_all(services.collect::<Vec<_>>()).await
    }

    /// Stops Kafka and PostgreSQL where they stand, until the answer is dropped.
    pub fn freeze_servers(&self) -> [Frozen; 2] {
        let Brokers::One(kafka) = &self.brokers else { panic!("one broker") };
        [kafka.pid(), self.postgres.pid()].map(|pid| Frozen::freeze(pid.expect("it runs")))
    }

    /// Every process ends cleanly, then the servers.
    pub async fn close(self) {
        for program in self.programs.into_iter().flatten() {
            program.stop().await;
        }
        self.brokers.stop().await;
        self.postgres.stop().await;
    }
}

/// The addresses that separate processes are told of each other.
pub struct Ports {
    pub gateway: u16,
    pub user_http: u16,
    user_grpc: u16,
    pub data_http: u16,
    data_grpc: u16,
    notifier_grpc: u16,
}

impl Ports {
    fn choose() -> Self {
        let port = || testkit::free_addr().port();
        Self {
            gateway: port(),
            user_http: port(),
            user_grpc: port(),
            data_http: port(),
            data_grpc: port(),
            notifier_grpc: port(),
        }
    }

    fn environment(&self, service: &str, env: &TestEnv, database: &str, kafka: &str) -> Vec<(&'static str, String)> {
        let (http, grpc) = match service {
            "user-manager" => (self.user_http, self.user_grpc),
            "data-collector" => (self.data_http, self.data_grpc),
            _ => (0, self.notifier_grpc),
        };
        let mut environment = env.environment();
        environment.extend([
            ("DATABASE_URL", database.to_owned()),
            ("KAFKA_BROKER_URL", kafka.to_owned()),
            ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
            ("HTTP_ADDR", format!("127.0.0.1:{http}")),
            ("GRPC_ADDR", format!("127.0.0.1:{grpc}")),
            ("USER_MANAGER_GRPC_URL", format!("http://127.0.0.1:{}", self.user_grpc)),
            ("DATA_COLLECTOR_GRPC_URL", format!("http://127.0.0.1:{}", self.data_grpc)),
        ]);
        environment
    }

    /// The gateway, always at the same address and with the same certificate in `folder`.
    async fn start_gateway(&self, folder: &Path, environment: &[(&'static str, String)]) -> Process {
        let listen = format!("127.0.0.1:{}", self.gateway);
        let certificates = folder.join("tls").display().to_string();
        let (users, data) = (format!("127.0.0.1:{}", self.user_http), format!("127.0.0.1:{}", self.data_http));
        let arguments = ["gateway", "--listen", &listen, "--certificates", &certificates];
        let arguments = [&arguments[..], &["--user-manager", &users, "--data-collector", &data]].concat();
        program::start("flightbell", &arguments, environment).await
    }
}
