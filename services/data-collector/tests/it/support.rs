use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chrono::{DateTime, NaiveDate, Utc};
use data_collector::{Config, Running, store::MIGRATOR};
use events::topics::{Namespace, TO_ALERT_SYSTEM};
use proto::v1::{
    ContactResponse, UndeliveredReport, UndeliveredReportResponse, UserRequest, UserResponse,
    user_service_server::{UserService, UserServiceServer},
};
use runtime::{ServiceRuntime, clock::Clock, listen::Listen};
use serde_json::{Value, json};
use simulators::opensky::{Options, Recording, Request, Scripted, Source};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};
use uuid::Uuid;

/// How long a condition may take to come true.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The time on the tests' clock when an environment begins.
pub const BEGINS_AT: &str = "2026-11-20T10:00:00Z";

pub const PARIS: (f64, f64) = (49.0097, 2.5479);

/// Everything around the service: it can be started in it more than once, at once or again.
pub struct TestEnv {
    pub kafka: String,
    pub topics: Namespace,
    pub database: testkit::Database,
    pub opensky: simulators::opensky::OpenSky,
    pub scripted: Scripted,
    pub people: People,
    pub clock: Clock,
}

/// One running service.
pub struct App {
    pub runtime: ServiceRuntime,
    pub running: Running,
    http: reqwest::Client,
}

pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub headers: reqwest::header::HeaderMap,
}

/// A record on `to-alert-system`.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: Uuid,
    pub value: Option<Value>,
    pub headers: HashMap<String, String>,
}

impl TestEnv {
    pub async fn new() -> Self {
        Self::at_speed(1).await
    }

    /// An environment whose clock runs `speed` times as fast as the system's.
    pub async fn at_speed(speed: u32) -> Self {
        start_servers().await;
        Self::on(Clock::replay(BEGINS_AT.parse().expect("a time"), speed)).await
    }

    pub async fn on(clock: Clock) -> Self {
        Self::beside(clock, clock).await
    }

    /// An environment whose OpenSky has a clock of its own.
    pub async fn beside(clock: Clock, traffic: Clock) -> Self {
        let scripted = Scripted::new();
        Self::with(clock, traffic, Source::Scripted(scripted.clone()), scripted).await
    }

    /// The recorded afternoon, so many times as fast.
    pub async fn replay(speed: u32) -> Self {
        let recording = Recording::load().expect("the recordings");
        start_servers().await;
        let clock = Clock::replay(simulators::opensky::begins_at(), speed);
        Self::with(clock, clock, Source::Recording(Arc::new(recording)), Scripted::new()).await
    }

    async fn with(clock: Clock, traffic: Clock, source: Source, scripted: Scripted) -> Self {
        runtime::choose_tls();
        let options = Options::new(Arc::new(move || traffic.now()));
        let opensky =
            simulators::opensky::OpenSky::start(options, source, &CancellationToken::new()).await.expect("a simulator");
        let database = testkit::database(&MIGRATOR).await;
        Self {
            kafka: testkit::kafka().await,
            topics: testkit::topics(),
            database,
            opensky,
            scripted,
            people: People::start().await,
            clock,
        }
    }

    pub fn vars(&self) -> HashMap<String, String> {
        let vars = [
            ("DATABASE_URL", self.database.url.clone()),
            ("KAFKA_BROKER_URL", self.kafka.clone()),
            ("KAFKA_PARTITIONS", "3".to_owned()),
            ("USER_MANAGER_GRPC_URL", format!("http://{}", self.people.addr)),
            ("OPEN_SKY_API_URL", self.opensky.api_url()),
            ("OPEN_SKY_TOKEN_URL", self.opensky.token_url()),
            ("OPEN_SKY_CLIENT_ID", "flightbell".to_owned()),
            ("OPEN_SKY_CLIENT_SECRET", "simulator".to_owned()),
            ("HTTP_ADDR", "127.0.0.1:0".to_owned()),
            ("GRPC_ADDR", "127.0.0.1:0".to_owned()),
            ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
        ];
        vars.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    pub fn config(&self) -> Config {
        let mut config = Config::from_vars(&self.vars()).expect("a configuration");
        config.topics = self.topics.clone();
        config
    }

    pub async fn start(&self) -> App {
        self.start_with(|_| {}).await
    }

    pub async fn start_with(&self, change: impl FnOnce(&mut Config)) -> App {
        let mut config = self.config();
        change(&mut config);
        let runtime = ServiceRuntime::new("data-collector", CancellationToken::new(), self.clock);
        let running = data_collector::start(config, &runtime).await.expect("it starts");
        App { runtime, running, http: testkit::http_client() }
    }

    /// A service that is about to start with `config`, at addresses that are bound already.
    pub fn about_to_start(&self, config: &mut Config) -> App {
        let bound = |listen: &mut Listen| {
            *listen = Listen::on_loopback().expect("a port");
            listen.addr().expect("an address")
        };
        let running = Running { http: bound(&mut config.http), grpc: bound(&mut config.grpc) };
        let runtime = ServiceRuntime::new("data-collector", CancellationToken::new(), self.clock);
        App { runtime, running, http: testkit::http_client() }
    }

    pub fn person(&self, email: &str) -> Uuid {
        self.people.register(email)
    }

    pub fn yesterday(&self) -> NaiveDate {
        self.clock.now().date_naive().pred_opt().expect("a day before")
    }

    /// Everything on `to-alert-system` so far, in the order of each partition.
    pub async fn records(&self) -> Vec<Record> {
        records(&self.kafka, &self.topics.topic(&TO_ALERT_SYSTEM)).await
    }

    /// The values sent to one interest, in order.
    pub async fn sent_to(&self, interest: Uuid) -> Vec<Value> {
        let records = self.records().await.into_iter().filter(|record| record.key == interest);
        records.filter_map(|record| record.value).collect()
    }

    /// Waits until `enough` holds of what was sent to one interest.
    pub async fn wait_sent(&self, interest: Uuid, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        wait_for("messages to an interest", async || {
            let sent = self.sent_to(interest).await;
            enough(&sent).then_some(sent)
        })
        .await
    }

    pub async fn requests(&self, airport: &str) -> Vec<Request> {
        let requests = self.opensky.requests().into_iter();
        requests.filter(|request| request.param("airport") == Some(airport)).collect()
    }

    pub async fn scalar(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database.pool).await.expect("a number")
    }
}

impl App {
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    pub async fn call_with(&self, method: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Answer {
        let url = format!("http://{}{path}", self.running.http);
        let mut request = self.http.request(method.parse().expect("a method"), url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)), headers }
    }

    pub async fn post(&self, body: Value) -> Answer {
        self.call("POST", "/interests", Some(body)).await
    }

    pub async fn put(&self, body: Value) -> Answer {
        self.call("PUT", "/interests", Some(body)).await
    }

    pub async fn delete(&self, body: Value) -> Answer {
        self.call("DELETE", "/interests", Some(body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    /// Registers an interest and answers its id.
    pub async fn watch(&self, email: &str, airport: &str, metric: &str, high: Option<i64>, low: Option<i64>) -> Uuid {
        let body =
            json!({"email": email, "airport_code": airport, "metric": metric, "high_value": high, "low_value": low});
        let answer = self.post(body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let icao = airports::lookup(airport).expect("an airport").icao.to_string();
        self.interest(email, &icao, metric).await["id"].as_str().expect("an id").parse().expect("an id")
    }

    /// One interest as it is listed, by its ICAO code.
    pub async fn interest(&self, email: &str, airport: &str, metric: &str) -> Value {
        let listed = self.get(&format!("/interests/{email}")).await;
        assert_eq!(listed.status, 200, "{}", listed.body);
        let interests = listed.body["interests"].as_array().expect("a list").iter();
        let mut found = interests.filter(|one| one["airport_code"] == airport && one["metric"] == metric);
        found.next().cloned().expect("the interest")
    }

    /// Waits until an airport has a reading that `enough` accepts.
    pub async fn wait_reading(&self, airport: &str, metric: &str, enough: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/readings/{airport}?metric={metric}");
        wait_for("a reading", async || {
            let readings = self.get(&path).await.body;
            readings.as_array().expect("a list").iter().find(|reading| enough(reading)).cloned()
        })
        .await
    }

    pub async fn readings(&self, airport: &str, metric: &str) -> Vec<Value> {
        let readings = self.get(&format!("/readings/{airport}?metric={metric}")).await.body;
        readings.as_array().expect("a list").clone()
    }

    pub fn metrics(&self) -> String {
        runtime::metrics::render([&self.runtime.registry].into_iter()).expect("metrics")
    }

    /// A part of `/readyz` by its name.
    pub async fn part(&self, name: &str) -> Option<(bool, String)> {
        let report = self.runtime.readiness.report().await;
        let part = report.parts.into_iter().find(|part| part.name == name)?;
        Some((part.up, part.detail.unwrap_or_default()))
    }

    pub async fn is_ready(&self) -> bool {
        self.runtime.readiness.report().await.ready
    }

    pub async fn delete_user(&self, email: &str, user_id: Option<Uuid>) -> Result<i64, Status> {
        let request = UserRequest { email: email.to_owned(), user_id: user_id.map(|id| id.to_string()) };
        let address = format!("http://{}", self.running.grpc).parse().expect("an address");
        let channel = grpc_edge::channel(
            "user-manager",
            tonic::transport::Endpoint::new::<http::Uri>(address).expect("an address"),
        );
        let mut client = proto::v1::data_collector_service_client::DataCollectorServiceClient::new(channel);
        client.delete_user_interests(request).await.map(|answer| answer.into_inner().deleted_count)
    }

    /// Stops as on SIGTERM.
    pub async fn stop(self) {
        let begun = Instant::now();
        self.runtime.tasks.stopping().cancel();
        self.runtime.tasks.join().await.expect("a clean stop");
        assert!(begun.elapsed() < Duration::from_secs(18), "stopping took {:?}", begun.elapsed());
    }
}

/// Has the servers ready, so that a fast clock does not begin long before the environment is there.
async fn start_servers() {
    testkit::kafka().await;
    testkit::database(&MIGRATOR).await;
}

/// Waits until `check` answers something.
pub async fn wait_for<T>(what: &str, check: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited for {what} in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Everything on a topic so far.
pub async fn records(kafka: &str, topic: &str) -> Vec<Record> {
    testkit::topic_io::consume_all(kafka, topic).await.into_iter().map(Record::from).collect()
}

impl From<testkit::topic_io::Record> for Record {
    fn from(found: testkit::topic_io::Record) -> Self {
        let key = std::str::from_utf8(found.key.as_deref().expect("a key")).expect("text");
        Self {
            key: key.parse().expect("an interest id"),
            value: found.value.as_deref().map(|value| serde_json::from_slice(value).expect("JSON")),
            headers: found.headers_as_text(),
        }
    }
}

/// A small user-manager.
#[derive(Clone)]
pub struct People {
    pub addr: SocketAddr,
    known: Arc<Mutex<HashMap<String, Uuid>>>,
    mode: Arc<Mutex<Mode>>,
    pub asked: Arc<std::sync::atomic::AtomicU32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Answers,
    Refuses,
    Hangs,
}

impl People {
    async fn start() -> Self {
        let listen = Listen::on_loopback().expect("a port");
        let people = Self {
            addr: listen.addr().expect("an address"),
            known: Arc::default(),
            mode: Arc::new(Mutex::new(Mode::Answers)),
            asked: Arc::default(),
        };
        let runtime = ServiceRuntime::new("user-manager", CancellationToken::new(), Clock::system());
        let served = grpc_edge::serve(&runtime, listen, UserServiceServer::new(people.clone())).await.expect("served");
        served.set_serving().await;
        people
    }

    pub fn register(&self, email: &str) -> Uuid {
        let id = Uuid::now_v7();
        self.known.lock().expect("lock").insert(email.to_owned(), id);
        id
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().expect("lock") = mode;
    }
}

#[tonic::async_trait]
impl UserService for People {
    async fn check_user_exists(&self, request: tonic::Request<UserRequest>) -> Result<Response<UserResponse>, Status> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mode = *self.mode.lock().expect("lock");
        match mode {
            Mode::Answers => {}
            Mode::Refuses => return Err(Status::unavailable("resting")),
            Mode::Hangs => std::future::pending().await,
        }
        let known = self.known.lock().expect("lock").get(&request.into_inner().email).copied();
        let user_id = known.map(|id| id.to_string()).unwrap_or_default();
        Ok(Response::new(UserResponse { exists: known.is_some(), user_id }))
    }

    async fn get_contact(&self, _: tonic::Request<UserRequest>) -> Result<Response<ContactResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn report_undelivered(
        &self,
        _: tonic::Request<UndeliveredReport>,
    ) -> Result<Response<UndeliveredReportResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

/// A time on the tests' clock.
pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}
