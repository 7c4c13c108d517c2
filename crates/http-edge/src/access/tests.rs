use std::time::Duration;

use axum::{
    Router,
    body::Body,
    middleware,
    routing::{get, post},
};
use runtime::{ServiceRuntime, clock::Clock};
use testkit::{CapturedLog, LevelFilter};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use utoipa::openapi::{HttpMethod, OpenApiBuilder, Paths, path::OperationBuilder};
use uuid::Uuid;

use super::*;
use crate::with_middleware;

static ROWS: [RouteAccess; 3] = [
    RouteAccess::new(Method::GET, "/flights/{airport}", Access::Permission(Permission::ViewFlights)),
    RouteAccess::new(Method::GET, "/users/{email}", Access::Own(Permission::ViewUsers)),
    RouteAccess::new(Method::POST, "/users", Access::Public),
];

#[test]
fn who_may_call_what() {
    use Access::{Own, Public};
    use Permission::{ViewFlights, ViewUsers};
    let anonymous = Principal::Anonymous;
    let user = Principal::User(Uuid::from_u128(7));
    let service = Principal::Service("notifier".parse().expect("a name"));
    let flights = Access::Permission(ViewFlights);
    let all = [ViewFlights, ViewUsers];
    for (access, principal, permissions, expected) in [
        (Some(Public), &anonymous, &[][..], Ok(())),
        (Some(flights), &anonymous, &[], Err(Denied::SignInRequired)),
        (Some(Own(ViewUsers)), &anonymous, &[], Err(Denied::SignInRequired)),
        (None, &anonymous, &[], Err(Denied::NoRow)),
        (Some(Public), &user, &[], Ok(())),
        (Some(flights), &user, &[], Err(Denied::Forbidden)),
        (Some(flights), &user, &[ViewFlights], Ok(())),
        (Some(flights), &user, &[ViewUsers], Err(Denied::Forbidden)),
        (Some(Own(ViewUsers)), &user, &[], Ok(())),
        (None, &user, &all, Err(Denied::NoRow)),
        (Some(flights), &service, &[], Err(Denied::Forbidden)),
        (Some(Own(ViewUsers)), &service, &[ViewFlights], Err(Denied::Forbidden)),
        (Some(Own(ViewUsers)), &service, &all, Ok(())),
    ] {
        let decided = decide(Policy::Enforced, access, principal, permissions);
        assert_eq!(decided, expected, "{access:?} {principal:?} {permissions:?}");
        assert_eq!(decide(Policy::Open, access, principal, permissions), Ok(()));
    }
}

/// A service with a route that has no row.
fn app(policy: Policy) -> Router {
    let own = Router::new()
        .route("/flights/{airport}", get(who))
        .route("/users/{email}", get(who))
        .route("/users", post(who).get(who))
        .route("/forgotten", get(who));
    let table = RouteTable { policy, ..RouteTable::of_service("test", &ROWS) };
    let all = Router::new().nest("/test", own.clone()).merge(own).route("/ping", get(who));
    let authorized = middleware::from_fn(move |mut request: Request, next: middleware::Next| async move {
        match authorize(table, &mut request) {
            Ok(()) => next.run(request).await,
            Err(refusal) => *refusal,
        }
    });
    all.layer(authorized)
}

async fn who(CurrentPrincipal(principal): CurrentPrincipal) -> &'static str {
    principal.kind()
}

async fn ask(policy: Policy, method: &str, path: &str) -> Response {
    let request = Request::builder().method(method).uri(path).header("x-flightbell-service", "notifier");
    app(policy).oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer")
}

#[tokio::test]
async fn an_enforced_table_holds_with_and_without_the_prefix_and_refuses_what_has_no_row() {
    for prefix in ["", "/test"] {
        for (method, path, expected) in [
            ("POST", "/users", 200),
            ("GET", "/flights/LIRF", 401),
            ("HEAD", "/flights/LIRF", 401),
            ("GET", "/users/ada@example.org", 401),
            ("GET", "/users", 405),
            ("DELETE", "/users/ada@example.org", 405),
            ("GET", "/forgotten", 404),
            ("GET", "/nothing", 404),
        ] {
            let answer = ask(Policy::Enforced, method, &format!("{prefix}{path}")).await;
            assert_eq!(answer.status().as_u16(), expected, "{method} {prefix}{path}");
            assert_eq!(answer.headers().contains_key("www-authenticate"), expected == 401);
            assert_eq!(answer.headers().contains_key("allow"), expected == 405);
        }
    }
    assert_eq!(ask(Policy::Enforced, "GET", "/ping").await.status(), 200);
    assert_eq!(ask(Policy::Enforced, "HEAD", "/ping").await.status(), 200);
}

#[tokio::test]
async fn while_nobody_can_sign_in_every_route_is_open_to_anonymous_callers() {
    assert_eq!(POLICY, Policy::Open);
    for path in ["/flights/LIRF", "/test/users/ada@example.org", "/forgotten"] {
        let answer = ask(Policy::Open, "GET", path).await;
        assert_eq!(answer.status(), 200, "{path}");
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body").to_bytes();
        assert_eq!(body, "anonymous", "no header makes a caller a service");
    }
}

fn document(calls: &[(HttpMethod, &str)]) -> OpenApi {
    let paths = calls.iter().fold(Paths::new(), |mut paths, (method, path)| {
        paths.add_path_operation(*path, vec![method.clone()], OperationBuilder::new().build());
        paths
    });
    OpenApiBuilder::new().paths(paths).build()
}

#[test]
fn a_call_without_a_row_and_a_row_without_a_call_are_told() {
    let all = [
        (HttpMethod::Get, "/flights/{airport}"),
        (HttpMethod::Get, "/users/{email}"),
        (HttpMethod::Post, "/users"),
        (HttpMethod::Get, "/users"),
    ];
    assert_eq!(differences(&document(&all[..3]), &ROWS), [""; 0]);
    assert_eq!(differences(&document(&all), &ROWS), ["GET /users has no row that says who may call it"]);
    let missing = "POST /users has a row, and is not in the OpenAPI document";
    assert_eq!(differences(&document(&all[..2]), &ROWS), [missing]);
    let twice = [ROWS.as_slice(), &ROWS[2..]].concat();
    assert_eq!(differences(&document(&all[..3]), &twice), ["POST /users has two rows"]);
}

#[tokio::test]
async fn the_log_tells_what_kind_of_principal_asked() {
    let log = CapturedLog::begin_at(LevelFilter::DEBUG);
    let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
    let routes = Router::new().route("/users/{email}", get(who));
    let table = RouteTable::of_service("test", &ROWS);
    let app = with_middleware(&runtime, routes, Duration::from_secs(5), table).expect("an edge");
    let request = Request::builder().uri("/users/ada@example.org").header("host", "a").body(Body::empty());
    assert_eq!(app.oneshot(request.expect("a request")).await.expect("an answer").status(), 200);
    let log = log.lines(&[]).join("\n");
    assert!(log.contains("principal=\"anonymous\"") && log.contains("answered GET /users/{email}"), "{log}");
    assert!(!log.contains("ada"), "{log}");
}
