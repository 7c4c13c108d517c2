//! Every service as a process of its own, on a PostgreSQL and a Kafka of the test's own, between the
//! stand-ins for OpenSky and Telegram.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use local_servers::{Durability, Kafka, KafkaOptions, Places, Postgres, PostgresOptions};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use standins::{
    opensky::{self, Budget, OpenSky, Scripted, Source},
    system_clock,
    telegram::{self, Page, Telegram},
};
use testkit::Process;
use tokio_util::sync::CancellationToken;

use crate::program::{self, PATIENCE};

/// The services that are processes of their own, in the order in which they are started.
pub const SERVICES: [&str; 4] = ["user-manager", "data-collector", "alert-system", "notifier"];

/// Paris, where the aircraft of these tests are.
pub const LFPG: (f64, f64) = (49.0128, 2.55);

/// Where the private servers' programs are on this machine.
pub fn places() -> Places {
    let variable = |key: &str| shell::config::Vars::get(&shell::config::ProcessEnv, key);
    let home = variable("HOME").map(PathBuf::from).expect("a home");
    let cache = variable("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let path = variable("PATH").unwrap_or_default();
    Places::new(path.into(), variable("JAVA_HOME").map(Into::into), variable("KAFKA_HOME").map(Into::into), cache)
}

/// A folder that the servers' user can pass through.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("flightbell-test-").tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("opened");
    folder
}

/// The sky over Paris, and the chat: what a test changes and looks at.
pub struct World {
    pub sky: Scripted,
    pub open_sky: OpenSky,
    pub telegram: Telegram,
}

impl World {
    pub async fn new() -> Self {
        let stopping = CancellationToken::new();
        let sky = Scripted::new();
        let options = opensky::Options {
            // So many credits that an airport is collected as often as the settings allow.
            budget: Budget { signed_in: 50_000_000, anonymous: 50_000_000 },
            ..opensky::Options::new(system_clock())
        };
        let open_sky = OpenSky::start(options, Source::Scripted(sky.clone()), &stopping).await.expect("a sky");
        let telegram = Telegram::start(telegram::Options::new(Page::plain()), &stopping).await.expect("a chat");
        Self { sky, open_sky, telegram }
    }

    /// So many aircraft around Paris from now on.
    pub fn aircraft(&self, count: u32) {
        self.sky.set_aircraft("paris", LFPG.0, LFPG.1, count);
    }

    /// What a service or `up` is told about the outside.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OPEN_SKY_API_URL", self.open_sky.api_url()),
            ("OPEN_SKY_TOKEN_URL", self.open_sky.token_url()),
            ("OPEN_SKY_CLIENT_ID", "flightbell".to_owned()),
            ("OPEN_SKY_CLIENT_SECRET", "stand-in".to_owned()),
            ("COLLECT_INTERVAL_SECONDS", "1".to_owned()),
            ("TELEGRAM_API_URL", self.telegram.url()),
            ("TELEGRAM_BOT_TOKEN", self.telegram.token().to_owned()),
            ("RUST_LOG", "info".to_owned()),
        ]
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

/// `flightbell up` on a folder, with the world around it and `more` in its environment; ready, with its
/// address.
pub async fn up(world: &World, folder: &std::path::Path, more: &[(&'static str, String)]) -> (Process, String) {
    let mut environment = world.environment();
    environment.push(("XDG_CACHE_HOME", places().cache_home.display().to_string()));
    environment.extend(more.iter().cloned());
    let folder = folder.display().to_string();
    let arguments = ["up", "--data-dir", folder.as_str(), "--listen", "127.0.0.1:0"];
    let mut program = program::start("flightbell", &arguments, &environment).await;
    let base = program.says("ready ").await;
    (program, base)
}

/// A client that trusts the certificate a gateway made.
pub async fn client(certificate: &std::path::Path) -> reqwest::Client {
    shell::choose_tls();
    let pem = tokio::fs::read(certificate).await.expect("the certificate");
    let certificate = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([certificate]).timeout(Duration::from_secs(20));
    client.build().expect("a client")
}

/// Somebody with a chat who watches Paris, set up through the public API.
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

/// Waits until every alert in a ledger is settled.
pub async fn is_settled(ledger: &str) {
    let mut connection = PgConnection::connect(ledger).await.expect("the ledger");
    let settled = async {
        loop {
            let pending: i64 = sqlx::query_scalar("SELECT count(*) FROM alerts WHERE status = 'pending'")
                .fetch_one(&mut connection)
                .await
                .expect("a count");
            if pending == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("everything is settled in time");
}

/// The services as processes.
pub struct Town {
    pub world: Arc<World>,
    pub kafka: Kafka,
    pub postgres: Postgres,
    pub base: String,
    pub client: reqwest::Client,
    programs: Vec<Option<Process>>,
    environments: Vec<Vec<(&'static str, String)>>,
    _gateway: Process,
    _folder: tempfile::TempDir,
}

impl Town {
    pub async fn build() -> Self {
        let mut town = Self::empty(Durability::ForTests, &[("KAFKA_PARTITIONS", "3".to_owned())]).await;
        for service in SERVICES {
            town.start(service).await;
        }
        town
    }

    /// Servers of that kind, and a gateway. No service runs yet; each will have `more` in its environment.
    pub async fn empty(durability: Durability, more: &[(&'static str, String)]) -> Self {
        let (world, folder, places) = (Arc::new(World::new().await), folder(), places());
        let postgres = Postgres::start(PostgresOptions::new(&places, folder.path(), durability));
        let kafka = Kafka::start(KafkaOptions::new(&places, folder.path(), durability));
        let (postgres, kafka) = tokio::join!(postgres, kafka);
        let (postgres, kafka) = (postgres.expect("a PostgreSQL"), kafka.expect("a Kafka"));
        let ports = Ports::choose();
        let mut environments = Vec::new();
        for service in SERVICES {
            let database = service.replace('-', "_");
            postgres.create_database(&database).await.expect("a database");
            let mut own = ports.environment(service, &world, &postgres.url(&database), &kafka.bootstrap());
            own.extend(more.iter().cloned());
            environments.push(own);
        }
        let certificates = folder.path().join("tls");
        let mut gateway =
            program::start("flightbell", &ports.gateway(&certificates), &[("ADMIN_ADDR", "127.0.0.1:0".to_owned())])
                .await;
        let base = gateway.says("ready ").await;
        let client = client(&certificates.join("cert.pem")).await;
        let programs = SERVICES.iter().map(|_| None).collect();
        Self { world, kafka, postgres, base, client, programs, environments, _gateway: gateway, _folder: folder }
    }

    fn index(service: &str) -> usize {
        SERVICES.iter().position(|known| *known == service).expect("a service")
    }

    pub async fn start(&mut self, service: &'static str) {
        self.start_with(service, &[]).await;
    }

    /// Starts a service with more in its environment.
    pub async fn start_with(&mut self, service: &'static str, more: &[(&'static str, String)]) {
        let index = Self::index(service);
        let environment: Vec<_> = self.environments[index].iter().chain(more).cloned().collect();
        self.programs[index] = Some(program::start(service, &[], &environment).await);
    }

    pub fn program(&mut self, service: &str) -> &mut Process {
        self.programs[Self::index(service)].as_mut().expect("it runs")
    }

    pub async fn kill(&mut self, service: &'static str) {
        let program = self.programs[Self::index(service)].take();
        program.expect("it runs").kill().await;
    }

    /// Waits until nothing in the ledger is under way: from then on a death repeats nothing.
    pub async fn settled(&self) {
        is_settled(&self.postgres.url("notifier")).await;
    }

    /// Every service ends cleanly, then the servers.
    pub async fn close(self) {
        for program in self.programs.into_iter().flatten() {
            program.stop().await;
        }
        self.kafka.stop().await;
        self.postgres.stop().await;
    }
}

/// The addresses that separate processes are told of each other.
struct Ports {
    user_http: u16,
    user_grpc: u16,
    data_http: u16,
    data_grpc: u16,
    notifier_grpc: u16,
}

impl Ports {
    fn choose() -> Self {
        let port = || testkit::free_addr().port();
        Self { user_http: port(), user_grpc: port(), data_http: port(), data_grpc: port(), notifier_grpc: port() }
    }

    fn environment(&self, service: &str, world: &World, database: &str, kafka: &str) -> Vec<(&'static str, String)> {
        let (http, grpc) = match service {
            "user-manager" => (self.user_http, self.user_grpc),
            "data-collector" => (self.data_http, self.data_grpc),
            _ => (0, self.notifier_grpc),
        };
        let mut environment = world.environment();
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

    fn gateway(&self, certificates: &std::path::Path) -> [&'static str; 9] {
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        [
            "gateway",
            "--listen",
            "127.0.0.1:0",
            "--certificates",
            leak(certificates.display().to_string()),
            "--user-manager",
            leak(format!("127.0.0.1:{}", self.user_http)),
            "--data-collector",
            leak(format!("127.0.0.1:{}", self.data_http)),
        ]
    }
}
