//! Behind a pooler that refuses the start-up parameters that PgBouncer refuses.

use std::{net::SocketAddr, time::Duration};

use pg::Database;
use runtime::{ServiceRuntime, clock::Clock};
use secrecy::SecretString;
use sqlx::migrate::Migrator;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// What PgBouncer 1.18 takes without `ignore_startup_parameters`.
const TAKEN: [&str; 7] =
    ["user", "database", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name"];
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// How a pooler lends its connections to the server.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Session,
    /// The client that asks next gets the session that was used last.
    Transaction,
}

/// A port in front of the shared PostgreSQL, and what keeps it open.
async fn pooler(mode: Mode) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    testkit::servers().await;
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        let (taken, _) = watch::channel(());
        while let Ok((client, _)) = listener.accept().await {
            if mode == Mode::Transaction {
                taken.send_replace(());
            }
            let taken = taken.subscribe();
            connections.spawn(async move { drop(serve(client, taken).await) });
        }
        drop(taken);
    });
    (addr, serving)
}

async fn serve(mut client: TcpStream, mut taken: watch::Receiver<()>) -> std::io::Result<()> {
    let mut packet = startup_packet(&mut client).await?;
    if packet[4..8] == SSL_REQUEST {
        client.write_all(b"N").await?;
        packet = startup_packet(&mut client).await?;
    }
    let words: Vec<_> = packet[8..].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let mut parameters = words.iter().step_by(2).take_while(|name| !name.is_empty());
    if let Some(refused) = parameters.find(|name| !TAKEN.contains(&name.as_ref())) {
        let error = format!("SFATAL\0C08P01\0Munsupported startup parameter: {refused}\0\0");
        let length = u32::try_from(error.len() + 4).expect("short");
        client.write_all(&[&b"E"[..], &length.to_be_bytes()[..], error.as_bytes()].concat()).await?;
        return client.shutdown().await;
    }
    let mut server = TcpStream::connect(testkit::servers().await.postgres).await?;
    server.write_all(&packet).await?;
    let (mut from_client, mut from_server) = (vec![0; 8192], vec![0; 8192]);
    loop {
        tokio::select! {
            biased;
            // Its session is another client's from now on; it gets a new one.
            Ok(()) = taken.changed() => server = session(&packet).await?,
            read = client.read(&mut from_client) => match read? {
                0 => return Ok(()),
                read => server.write_all(&from_client[..read]).await?,
            },
            read = server.read(&mut from_server) => match read? {
                0 => return Ok(()),
                read => client.write_all(&from_server[..read]).await?,
            },
        }
    }
}

/// A session of the server that is ready for a query.
async fn session(startup: &[u8]) -> std::io::Result<TcpStream> {
    let mut server = TcpStream::connect(testkit::servers().await.postgres).await?;
    server.write_all(startup).await?;
    loop {
        let (kind, length) = (server.read_u8().await?, server.read_u32().await?);
        let mut message = vec![0; usize::try_from(length).expect("small") - 4];
        server.read_exact(&mut message).await?;
        if kind == b'Z' {
            return Ok(server);
        }
    }
}

async fn startup_packet(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = client.read_u32().await?;
    let mut packet = length.to_be_bytes().to_vec();
    packet.resize(usize::try_from(length).expect("small"), 0);
    client.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

fn runtime() -> ServiceRuntime {
    ServiceRuntime::new("test", CancellationToken::new(), Clock::system())
}

fn parse(url: String) -> Database {
    Database::parse(&SecretString::from(url)).expect("a URL")
}

#[tokio::test]
async fn a_service_starts_behind_it_with_its_time_limits() {
    let (addr, _serving) = pooler(Mode::Session).await;
    let database = parse(testkit::empty_database().await.url_at(addr));
    let runtime = runtime();
    let connecting = pg::connect(&runtime, &database, &Migrator::DEFAULT);
    let pools = tokio::time::timeout(Duration::from_secs(20), connecting).await.expect("in time").expect("connected");
    for pool in [&pools.requests, &pools.background] {
        let limit: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(pool).await.expect("a setting");
        assert_eq!(limit, "10s");
    }
    database.connect("lease").await.expect("a connection of its own");
}

#[tokio::test]
async fn a_parameter_that_an_operator_asked_for_and_that_is_refused_is_named() {
    let (addr, _serving) = pooler(Mode::Session).await;
    let url = testkit::empty_database().await.url_at(addr);
    let database = parse(format!("{url}?options=-c%20geqo=off"));
    let runtime = runtime();
    let (waiting, mut connecting) = (runtime.clone(), JoinSet::new());
    connecting.spawn(async move { pg::connect(&waiting, &database, &Migrator::DEFAULT).await.map(drop) });
    let says_so = async || {
        let parts = runtime.readiness.report().await.parts;
        let mut details = parts.into_iter().filter_map(|part| part.detail);
        details.any(|why| why.contains("unsupported startup parameter: options"))
    };
    testkit::wait_for("readiness names it", Duration::from_secs(20), says_so).await;
}

#[tokio::test]
async fn a_pooler_that_lends_connections_by_the_transaction_is_refused_by_name() {
    let (addr, _serving) = pooler(Mode::Transaction).await;
    let mut database = parse(testkit::empty_database().await.url_at(addr));
    for migrate_at_start in [true, false] {
        database.migrate_at_start = migrate_at_start;
        let runtime = runtime();
        let connecting = pg::connect(&runtime, &database, &Migrator::DEFAULT);
        let error = tokio::time::timeout(Duration::from_secs(20), connecting).await.expect("in time");
        let error = error.expect_err("it cannot work");
        assert!(format!("{error:#}").contains("set PgBouncer's pool_mode to session"), "{error:#}");
    }
}
