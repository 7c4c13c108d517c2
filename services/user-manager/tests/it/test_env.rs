//! One test's own database, data-collector and service, and the verbs of its story.

use std::{net::SocketAddr, time::Duration};

use proto::v1::{
    ContactResponse, UndeliveredReport, UserRequest, UserResponse, user_service_client::UserServiceClient,
};
use reqwest::header::HeaderMap;
use runtime::{ServiceRuntime, clock::Clock, listen::Listen};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use user_manager::{Config, MIGRATOR, start};
use uuid::Uuid;

use crate::collector::Collector;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct TestEnv {
    pub database: testkit::Database,
    pub collector: Collector,
    pub service: Service,
}

/// One replica in this process.
pub struct Service {
    pub runtime: ServiceRuntime,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    client: reqwest::Client,
}

/// A request to be sent.
pub struct Call(reqwest::RequestBuilder);

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub headers: HeaderMap,
}

impl TestEnv {
    pub async fn new() -> Self {
        let database = testkit::database(&MIGRATOR).await;
        let collector = Collector::start().await;
        let service = Service::start(&database.url, collector.addr).await;
        Self { database, collector, service }
    }

    /// The id of a user's registration.
    pub async fn id_of(&self, email: &str) -> Uuid {
        let asked = self.service.check(email, None).await.expect("an answer");
        assert!(asked.exists, "{email} is not registered");
        asked.user_id.parse().expect("an id")
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database.pool).await.expect("a count")
    }

    /// Waits until data-collector has been told of every deletion.
    pub async fn settled(&self) {
        let unsettled = "SELECT count(*) FROM jobs WHERE settled_at IS NULL";
        testkit::wait_for("the deletions to be settled", PATIENCE, async || self.count(unsettled).await == 0).await;
    }
}

impl Service {
    pub async fn start(database_url: &str, collector: SocketAddr) -> Self {
        let runtime = runtime();
        let running = start(config(database_url, collector), &runtime).await.expect("a start");
        Self::at(runtime, running.http, running.grpc)
    }

    /// One that starts, or has started, at these addresses.
    pub fn at(runtime: ServiceRuntime, http: SocketAddr, grpc: SocketAddr) -> Self {
        Self { runtime, http, grpc, client: testkit::http_client() }
    }

    pub async fn stop(&self) {
        self.runtime.tasks.stopping().cancel();
        self.runtime.tasks.join().await.expect("a clean stop");
    }

    pub fn call(&self, method: &str, path: &str) -> Call {
        Call::to(&self.client, self.http, method, path)
    }

    /// Registers a user with nothing but names.
    pub async fn register(&self, email: &str) {
        self.call("POST", "/users").key(&fresh_key()).json(&ada(email)).send().await.expect(201);
    }

    pub async fn link(&self, email: &str, chat: i64) -> Answer {
        self.call("POST", "/users/telegram").json(&json!({"email": email, "telegram_chat_id": chat})).send().await
    }

    pub async fn delete(&self, email: &str) -> Answer {
        self.call("DELETE", &format!("/users/{email}")).key(&fresh_key()).send().await
    }

    pub async fn show(&self, email: &str) -> Answer {
        self.call("GET", &format!("/users/{email}")).send().await
    }

    pub async fn check(&self, email: &str, user_id: Option<&str>) -> Result<UserResponse, Status> {
        let answer = self.directory().check_user_exists(question(email, user_id)).await;
        answer.map(tonic::Response::into_inner)
    }

    pub async fn contact(&self, email: &str, user_id: Option<&str>) -> Result<ContactResponse, Status> {
        let answer = self.directory().get_contact(question(email, user_id)).await;
        answer.map(tonic::Response::into_inner)
    }

    pub async fn report(&self, report: UndeliveredReport) -> Result<(), Status> {
        self.directory().report_undelivered(report).await.map(drop)
    }

    /// What the health service says of the server, and of its service by name.
    pub async fn health(&self) -> [ServingStatus; 2] {
        let mut health = HealthClient::new(self.channel());
        let mut says = [ServingStatus::Unknown; 2];
        for (says, service) in says.iter_mut().zip(["", "flightbell.v1.UserService"]) {
            let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await.expect("an answer");
            *says = answer.into_inner().status();
        }
        says
    }

    fn directory(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.channel())
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.grpc)).expect("an address").connect_lazy()
    }
}

impl Call {
    pub fn to(client: &reqwest::Client, addr: SocketAddr, method: &str, path: &str) -> Self {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        Self(client.request(method, format!("http://{addr}{path}")).timeout(PATIENCE))
    }

    pub fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub fn json(self, body: &Value) -> Self {
        self.bytes("application/json", body.to_string())
    }

    pub fn bytes(self, kind: &str, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.header("content-type", kind).body(body))
    }

    pub async fn send(self) -> Answer {
        self.try_send().await.expect("an answer")
    }

    /// As [`Call::send`], of a service that may die meanwhile.
    pub async fn try_send(self) -> reqwest::Result<Answer> {
        let response = self.0.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), headers })
    }
}

impl Answer {
    /// The answer, which must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// A problem with this status and short text, in the form of the contract.
    #[track_caller]
    pub fn refuses(&self, status: u16, error: &str) {
        assert_eq!((self.status, &self.body["error"]), (status, &json!(error)), "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], json!(status));
        assert!(["type", "title", "detail"].iter().all(|member| self.body[member].is_string()), "{}", self.body);
    }

    /// A success with this status and message.
    #[track_caller]
    pub fn says(&self, status: u16, message: &str) {
        assert_eq!((self.status, &self.body), (status, &json!({"message": message})));
        assert_eq!(self.headers["content-type"], "application/json");
    }

    pub fn is_replayed(&self) -> bool {
        self.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
    }
}

pub fn runtime() -> ServiceRuntime {
    ServiceRuntime::new("user-manager", CancellationToken::new(), Clock::system())
}

pub fn config(database_url: &str, collector: SocketAddr) -> Config {
    let vars = [("DATABASE_URL", database_url), ("DATA_COLLECTOR_GRPC_URL", &format!("http://{collector}"))];
    let config = Config::from_vars(&vars).expect("settings");
    let listen = || Listen::on_loopback().expect("a port");
    Config { http_addr: listen(), grpc_addr: listen(), ..config }
}

/// A user with this address.
pub fn ada(email: &str) -> Value {
    json!({"email": email, "first_name": "Ada", "last_name": "Lovelace"})
}

pub fn fresh_key() -> String {
    Uuid::new_v4().to_string()
}

fn question(email: &str, user_id: Option<&str>) -> UserRequest {
    UserRequest { email: email.to_owned(), user_id: user_id.map(ToOwned::to_owned) }
}
