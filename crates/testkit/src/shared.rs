//! The servers that all tests of a process share.

use std::{
    sync::{OnceLock, mpsc},
    thread,
};

use runtime::config::{ProcessEnv, Vars};

use crate::servers::{OwnServers, Servers};

/// The environment key by which `with-servers` tells where Kafka is.
pub const KAFKA: &str = "FLIGHTBELL_TEST_KAFKA";
/// The environment key by which `with-servers` tells where PostgreSQL is.
pub const POSTGRES: &str = "FLIGHTBELL_TEST_POSTGRES";

/// The servers of this test run, or else this process's own, started at the first call.
pub async fn servers() -> &'static Servers {
    tokio::task::spawn_blocking(blocking).await.expect("the servers")
}

/// The same, for callers that cannot wait asynchronously.
pub(crate) fn blocking() -> &'static Servers {
    static SERVERS: OnceLock<Result<Servers, String>> = OnceLock::new();
    let servers = SERVERS.get_or_init(|| given().map_or_else(start_own, Ok));
    servers.as_ref().unwrap_or_else(|error| panic!("start servers for the tests: {error}"))
}

fn given() -> Option<Servers> {
    let kafka = ProcessEnv.get(KAFKA)?;
    let postgres = ProcessEnv.get(POSTGRES)?.parse().expect("an address");
    Some(Servers { kafka, postgres })
}

/// On a thread and a runtime of their own: each test's runtime ends with the test.
fn start_own() -> Result<Servers, String> {
    let (told, telling) = mpsc::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return told.send(Err(error.to_string())).unwrap_or_default(),
        };
        runtime.block_on(async {
            let started = OwnServers::start().await;
            let addresses = started.as_ref().map(OwnServers::addresses).map_err(|error| format!("{error:#}"));
            // The receiver is gone only when the process ends.
            told.send(addresses).unwrap_or_default();
            if let Ok(_servers) = started {
                std::future::pending::<()>().await;
            }
        });
    };
    thread::Builder::new().name("test-servers".to_owned()).spawn(run).map_err(|error| error.to_string())?;
    telling.recv().map_err(|error| error.to_string())?
}
