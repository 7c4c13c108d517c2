//! A made-up service: it keeps whom it has greeted, and whom others have greeted, which it reads on a topic
//! of its own.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    task::{Context, Poll},
};

use axum::{
    Json,
    extract::State,
    http::{Method, StatusCode},
};
use http_edge::{Access, Problem, RouteAccess, Routes};
use kafka::KafkaConfig;
use pg::{Database, DbHandle, Pool};
use runtime::{
    ServiceRuntime,
    config::{ConfigError, Reader, RuntimeConfig, Settings, Vars},
    listen::Listen,
};
use serde::{Deserialize, Serialize};
use service::{Bound, ClockKind, Configured, Launch, ServiceSpec};
use sqlx::migrate::Migrator;
use tonic::{body::Body, server::NamedService};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::greetings;

static MIGRATOR: Migrator = sqlx::migrate!("examples/with_greeter/migrations");

/// What a process must know of this service.
pub static SERVICE: ServiceSpec = ServiceSpec {
    name: "greeter",
    migrations: Some(&MIGRATOR),
    http: true,
    grpc: true,
    topics: greetings::TOPICS,
    clock: ClockKind::System,
    configure,
};

struct Config {
    runtime: RuntimeConfig,
    settings: Settings,
    http: Listen,
    grpc: Listen,
    database: Database,
    kafka: KafkaConfig,
}

impl Config {
    fn from_vars(vars: &dyn Vars) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(vars);
        let runtime = RuntimeConfig::read(&mut reader);
        let http: SocketAddr = reader.or("HTTP_ADDR", SocketAddr::from(([0, 0, 0, 0], 5000)));
        let grpc: SocketAddr = reader.or("GRPC_ADDR", SocketAddr::from(([0, 0, 0, 0], 50060)));
        let database = Database::read(&mut reader, "greeter");
        let kafka = KafkaConfig::read(&mut reader);
        let settings = reader.settings();
        reader.finish(|| {
            let (http, grpc) = (http.into(), grpc.into());
            Some(Self { runtime, settings, http, grpc, database: database?, kafka: kafka? })
        })
    }
}

fn configure(vars: &dyn Vars) -> Result<Configured, ConfigError> {
    let config = Config::from_vars(vars)?;
    Ok(Configured::new(config.runtime.clone(), config.settings, async move |launch: Launch| {
        let http = launch.http.unwrap_or(config.http);
        let grpc = launch.grpc.unwrap_or(config.grpc);
        start(&launch.runtime, (http, grpc), (&config.database, &config.kafka)).await
    }))
}

async fn start(
    runtime: &ServiceRuntime,
    (http, grpc): (Listen, Listen),
    (database, kafka): (&Database, &KafkaConfig),
) -> anyhow::Result<Bound> {
    let db = DbHandle::<Pool>::default();
    let http = http_edge::serve(runtime, http, routes(db.clone())).await?;
    let grpc = grpc_edge::serve(runtime, grpc, Greeter).await?;
    let pools = pg::connect(runtime, database, &MIGRATOR).await?;
    db.set(pools.requests);
    grpc.set_serving().await;
    greetings::consume(kafka, pools.background, runtime).await?;
    Ok(Bound { http: Some(http), grpc: Some(grpc.addr) })
}

#[derive(Deserialize, Serialize, ToSchema)]
struct Greeting {
    name: String,
}

/// Who may call what.
static ACCESS: [RouteAccess; 2] = [
    RouteAccess::new(Method::GET, "/greetings", Access::Public),
    RouteAccess::new(Method::POST, "/greetings", Access::Public),
];

fn routes(db: DbHandle<Pool>) -> Routes {
    let router = OpenApiRouter::new().routes(routes!(greeted, greet)).with_state(db);
    let (router, openapi) = router.split_for_parts();
    Routes { router, openapi, access: &ACCESS }
}

/// Greet a person
#[utoipa::path(post, path = "/greetings", request_body = Greeting, responses((status = 201)))]
async fn greet(State(db): State<DbHandle<Pool>>, Json(greeting): Json<Greeting>) -> Result<StatusCode, Problem> {
    let insert = sqlx::query("INSERT INTO greetings (name) VALUES ($1)").bind(greeting.name);
    insert.execute(db.reached()?).await?;
    Ok(StatusCode::CREATED)
}

/// Everybody who was greeted
#[utoipa::path(get, path = "/greetings", responses((status = 200, body = [String])))]
async fn greeted(State(db): State<DbHandle<Pool>>) -> Result<Json<Vec<String>>, Problem> {
    Ok(Json(sqlx::query_scalar("SELECT name FROM greetings ORDER BY id").fetch_all(db.reached()?).await?))
}

/// A gRPC service without methods; the standard health service beside it knows it by name.
#[derive(Clone)]
struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "flightbell.example.Greeter";
}

impl tower::Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        ready(Ok(tonic::Status::unimplemented("the greeter has no methods").into_http()))
    }
}
