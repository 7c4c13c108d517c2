//! The calls, each beside what PostgreSQL alone could do in the same minute.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use local_servers::Durability;
use tempfile::TempDir;

use crate::{
    deployment::Deployment,
    floor::{Floor, statement},
    load::{Answers, Requests, Server, Until},
    process::start,
    rows,
    table::{Table, Target},
};

const PEOPLE: u32 = 20_000;
/// Of each person.
const INTERESTS: u32 = 3;
/// The airport whose flights and readings are asked for: so many a day for so many days.
const AIRPORT: &str = "EGLL";
const FLIGHTS: (u32, u32) = (84, 1_500);
const READINGS: u32 = 5_000;
/// Another one with ten times as many flights.
const LARGE_AIRPORT: &str = "EDDF";
const WATCHED: [&str; 8] = [AIRPORT, LARGE_AIRPORT, "LFPG", "EHAM", "LEMD", "LIRF", "LSZH", "LOWW"];
/// As many callers as pgbench has.
const CONNECTIONS: usize = 16;
/// Floor and service take turns, since the machine is not the same from one minute to the next.
const ROUNDS: u32 = 3;
/// How long each turn of the floor takes, and each of the service.
const TURN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(4));

/// What a call is to reach.
#[derive(Clone, Copy)]
enum Reach {
    /// Percent of the floor.
    Share(f64),
    /// Answers a second.
    Rate(f64),
}

struct Call {
    what: &'static str,
    service: &'static str,
    requests: Requests,
    floor: Vec<Floor>,
    reach: Reach,
}

/// Every call of the table, then the gateway beside the plain port.
pub async fn measure(table: &mut Table) {
    println!("{CONNECTIONS} callers, {PEOPLE} people, {} flights of one airport", FLIGHTS.0 * FLIGHTS.1);
    let mut deployment = Deployment::empty(Durability::Durable, &[]).await;
    for service in ["user-manager", "data-collector"] {
        let url = url(&deployment, &service.replace('-', "_"));
        start(&mut deployment, service, &[("DATABASE_URL", url)]).await;
    }
    populate(&deployment).await;
    let mut refused = 0;
    let mut averages = Vec::new();
    for call in calls() {
        let (floor, answers) = beside_its_floor(&deployment, &call).await;
        refused += answers.other_than(&[200, 201]);
        let rate = answers.rate();
        let share = 100.0 * rate / floor;
        let detail = format!(
            "{} of {}/s, {share:.0} % of PostgreSQL's {}/s; half within {:.1} ms, 99 % within {:.1} ms; statuses {:?}",
            answers.times.len(),
            rate.round(),
            floor.round(),
            1000.0 * answers.percentile(50).as_secs_f64(),
            1000.0 * answers.percentile(99).as_secs_f64(),
            answers.statuses,
        );
        match call.reach {
            Reach::Share(least) => table.add(call.what, Target::Over(least), share, "%", detail),
            Reach::Rate(least) => table.add(call.what, Target::Over(least), rate, "/s", detail),
        }
        if call.what.contains("average") {
            averages.push(rate);
        }
    }
    if let [one, ten_times] = averages[..] {
        let detail = "of the rate with a tenth of them".to_owned();
        table.add("average with ten times as many flights", Target::Over(90.0), 100.0 * ten_times / one, "%", detail);
    }
    refused += gateway(table, &deployment).await;
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let refused = refused as f64;
    table.add("answers that were not 200 or 201", Target::Under(1.0), refused, "", "of all of these".to_owned());
    deployment.close().await;
}

/// By TCP, as a PostgreSQL that stands elsewhere is reached, both by the services and by pgbench.
fn url(deployment: &Deployment, database: &str) -> String {
    let addr = deployment.postgres.loopback().expect("it listens");
    format!("postgres://postgres@{addr}/{database}")
}

async fn populate(deployment: &Deployment) {
    let mut users = rows::connect(&deployment.postgres.url("user_manager")).await;
    rows::people(&mut users, PEOPLE).await;
    rows::settle(&mut users).await;
    let mut data = rows::connect(&deployment.postgres.url("data_collector")).await;
    rows::keep_the_leader_from_asking(&mut data).await;
    rows::interests(&mut data, PEOPLE, 0..INTERESTS, &WATCHED).await;
    rows::flights(&mut data, AIRPORT, 0, FLIGHTS.0, FLIGHTS.1).await;
    rows::flights(&mut data, LARGE_AIRPORT, FLIGHTS.0 * FLIGHTS.1, FLIGHTS.0, 10 * FLIGHTS.1).await;
    rows::readings(&mut data, AIRPORT, READINGS).await;
    rows::settle(&mut data).await;
}

async fn beside_its_floor(deployment: &Deployment, call: &Call) -> (f64, Answers) {
    let folder = TempDir::new().expect("a folder");
    let server = Server::plain(deployment, call.service);
    let next = Arc::new(AtomicU64::new(0));
    // Connections are made, statements prepared.
    server.ask(CONNECTIONS, &call.requests, &next, Until::Elapsed(Duration::from_secs(1))).await;
    let (mut floor, mut answers) = (0.0, Answers::default());
    for _ in 0..ROUNDS {
        // One after the other: what a request does on two databases takes the sum of both.
        let mut a_request = 0.0;
        for part in &call.floor {
            a_request += 1.0 / part.rate(&url(deployment, part.database), folder.path(), TURN.0).await;
        }
        floor += 1.0 / a_request / f64::from(ROUNDS);
        answers.add(server.ask(CONNECTIONS, &call.requests, &next, Until::Elapsed(TURN.1)).await);
    }
    (floor, answers)
}

/// The same call through the gateway and past it.
async fn gateway(table: &mut Table, deployment: &Deployment) -> u64 {
    let past = Server::plain(deployment, "user-manager");
    let through = Server::gateway(deployment).await;
    let requests = [get(user), get(|n| format!("/user-manager{}", user(n)))];
    let next = Arc::new(AtomicU64::new(0));
    let mut answers = [Answers::default(), Answers::default()];
    for (server, requests) in [&past, &through].into_iter().zip(&requests) {
        server.ask(CONNECTIONS, requests, &next, Until::Elapsed(Duration::from_secs(1))).await;
    }
    for _ in 0..ROUNDS {
        for ((answers, server), requests) in answers.iter_mut().zip([&past, &through]).zip(&requests) {
            answers.add(server.ask(CONNECTIONS, requests, &next, Until::Elapsed(TURN.1)).await);
        }
    }
    let [past, through] = answers.map(|answers| (answers.rate(), answers.other_than(&[200])));
    let detail = format!("{:.0}/s of {:.0}/s at the plain port", through.0, past.0);
    table.add("GET /users/{email} over HTTPS", Target::Over(70.0), 100.0 * through.0 / past.0, "%", detail);
    past.1 + through.1
}

fn person(n: u64) -> u64 {
    1 + n * 7919 % u64::from(PEOPLE)
}

fn user(n: u64) -> String {
    format!("/users/person{}@example.org", person(n))
}

fn get(path: impl Fn(u64) -> String + Send + Sync + 'static) -> Requests {
    Arc::new(move |n| format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", path(n)))
}

fn post(path: &'static str, body: impl Fn(u64) -> String + Send + Sync + 'static) -> Requests {
    Arc::new(move |n| {
        let body = body(n);
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nidempotency-key: bench-{n}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    })
}

/// Before a script's statements: whom they are about.
const SOMEBODY: &str = "\\set n random(1, 20000)\n";
const EMAIL: &str = "('person' || :n || '@example.org')";
/// Where a list begins.
const END: &str = "'9999-12-31'::timestamptz";

fn calls() -> Vec<Call> {
    let mut calls = calls_about_people();
    calls.push(call_about_interests());
    calls.extend(calls_about_flights());
    calls.push(call_about_readings());
    calls
}

fn users(script: String) -> Floor {
    Floor { database: "user_manager", script }
}

fn data(script: String) -> Floor {
    Floor { database: "data_collector", script }
}

fn of_airport(path: &'static str, airport: &'static str) -> Requests {
    get(move |_| path.replace("{icao}", airport))
}

fn quoted(airport: &str) -> String {
    format!("'{airport}'")
}

fn calls_about_people() -> Vec<Call> {
    vec![
        Call {
            what: "GET /users/{email}",
            service: "user-manager",
            requests: get(user),
            floor: vec![users(format!(
                "{SOMEBODY}{}",
                statement("user-manager", "undelivered_reason FROM users WHERE email = $1", &[EMAIL])
            ))],
            reach: Reach::Share(40.0),
        },
        Call {
            what: "POST /users",
            service: "user-manager",
            requests: post("/users", |n| {
                format!(r#"{{"email":"new{n}@example.org","first_name":"Ada","last_name":"Lovelace"}}"#)
            }),
            floor: vec![users(registration())],
            reach: Reach::Share(50.0),
        },
    ]
}

fn call_about_interests() -> Call {
    Call {
        what: "GET /interests/{email}",
        service: "data-collector",
        requests: get(|n| format!("/interests/person{}@example.org", person(n))),
        floor: vec![
            users(format!("{SOMEBODY}{}", statement("user-manager", "telegram_chat_id, chat_link", &[EMAIL, "NULL"]))),
            data(format!(
                "{SOMEBODY}{}",
                statement("data-collector", "FROM interests i LEFT JOIN schedule s", &["md5('person' || :n)::uuid"])
            )),
        ],
        reach: Reach::Share(45.0),
    }
}

fn calls_about_flights() -> Vec<Call> {
    let average = |icao: &str| data(statement("data-collector", "FROM airport_days WHERE", &[&quoted(icao)]));
    let page = statement(
        "data-collector",
        "WHERE airport_code = $1 AND newest AND (happened_at",
        &[&quoted(AIRPORT), END, "''", END, "1001"],
    );
    vec![
        Call {
            what: "GET /flights/last/{icao}",
            service: "data-collector",
            requests: of_airport("/flights/last/{icao}", AIRPORT),
            floor: vec![data(statement("data-collector", "first_seen DESC LIMIT 1", &[&quoted(AIRPORT)]))],
            reach: Reach::Rate(6_000.0),
        },
        Call {
            what: "GET /flights/average/{icao}",
            service: "data-collector",
            requests: of_airport("/flights/average/{icao}", AIRPORT),
            floor: vec![average(AIRPORT)],
            reach: Reach::Rate(5_000.0),
        },
        Call {
            what: "GET /flights/average/{icao}, ten times as many",
            service: "data-collector",
            requests: of_airport("/flights/average/{icao}", LARGE_AIRPORT),
            floor: vec![average(LARGE_AIRPORT)],
            reach: Reach::Rate(5_000.0),
        },
        Call {
            what: "GET /flights/{icao}?limit=1000",
            service: "data-collector",
            requests: of_airport("/flights/{icao}?limit=1000", AIRPORT),
            floor: vec![data(page)],
            reach: Reach::Rate(600.0),
        },
    ]
}

fn call_about_readings() -> Call {
    let nobody = "'00000000-0000-0000-0000-000000000000'::uuid";
    let readings = statement(
        "data-collector",
        "WHERE airport_code = $1 AND (observed_at, id) < ($2, $3)",
        &[&quoted(AIRPORT), END, nobody, "101"],
    );
    Call {
        what: "GET /readings/{icao}",
        service: "data-collector",
        requests: of_airport("/readings/{icao}", AIRPORT),
        floor: vec![data(readings)],
        reach: Reach::Share(55.0),
    }
}

/// A registration under a key, as `http_edge::idempotency` writes it.
fn registration() -> String {
    let insert = statement(
        "user-manager",
        "INSERT INTO users (",
        &["gen_random_uuid()", "'floor' || gen_random_uuid() || '@example.org'", "'Ada'", "'Lovelace'", "NULL", "NULL"],
    );
    let caller = "'c775e7b757ede630cd0aa1113bd102661ab38829ca52a6422ab782862f268646'";
    format!(
        "\\set key random(1, 9000000000000000)\n\
         BEGIN;\n\
         SELECT pg_try_advisory_xact_lock(hashtextextended('idempotency floor ' || :key, 0));\n\
         SELECT request, status, body FROM idempotency_keys \
         WHERE principal = 'anonymous' AND caller = {caller} AND key = :key::text;\n\
         SAVEPOINT effect;\n\
         {insert}\
         INSERT INTO idempotency_keys (principal, caller, key, request, status, body) \
         VALUES ('anonymous', {caller}, :key::text, sha256({caller}), 201, '{{\"message\":\"User created successfully\"}}') \
         ON CONFLICT (caller, key) DO UPDATE \
         SET request = excluded.request, status = excluded.status, body = excluded.body, created_at = now();\n\
         COMMIT;\n"
    )
}
