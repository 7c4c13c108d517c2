//! `flightbell demo`: `up` on recorded real traffic, with a page that shows the Telegram chat.
//!
//! Nothing of the services is different: they talk to simulators that serve OpenSky's and Telegram's
//! own interfaces, and a clock that runs faster tells them the time of the recordings. People and
//! interests are set up through the public API, in a folder that is new at each start.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use local_servers::{DataDir, orphans};
use runtime::{
    clock::Clock,
    config::{Overlay, Vars},
    http_client,
};
use serde_json::{Value, json};
use simulators::{
    ClockFn,
    opensky::{self, OpenSky, Recording, Source},
    telegram::{self, Page, Telegram},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bind_guard, cli,
    services::{Clocks, SERVICES},
    settings,
    up::{Setup, run_with},
};

/// Where the data comes from, in the words of every message and answer: one line on a phone. Whose
/// recordings they are is said at the head of the page.
const SOURCE: &str = "replay of recorded traffic";

/// How the names of the demos' folders begin.
const FOLDER_PREFIX: &str = "flightbell-demo-";

/// How often an airport is collected, by the replay's clock.
const COLLECT_INTERVAL_SECONDS: &str = "60";

/// What else belongs to the real services and servers of the user who runs the demo.
const OTHER_REAL_ONES: [&str; 2] = ["KAFKA_BROKER_URL", "OPEN_SKY_CLIENT_SECRET_FILE"];

/// The settings that name something real: they are never used, so that no replayed flight reaches a
/// real database, topic or chat.
fn real_ones() -> impl Iterator<Item = String> {
    let databases = SERVICES.iter().filter_map(|spec| spec.database_key());
    let databases = databases.flat_map(|key| [format!("{key}_FILE"), key]);
    settings::OF_A_NAMED_KAFKA.into_iter().chain(OTHER_REAL_ONES).map(str::to_owned).chain(databases)
}

/// Where the simulators answer.
struct Simulators<'a> {
    api_url: &'a str,
    token_url: &'a str,
    telegram: &'a str,
    token: &'a str,
}

impl Simulators<'_> {
    /// Stands for them while everything else in the settings is checked, before they are started.
    const LATER: Self = Self {
        api_url: "http://127.0.0.1:1",
        token_url: "http://127.0.0.1:1",
        telegram: "http://127.0.0.1:1",
        token: "1:later",
    };

    /// The environment of the demo: `vars` with the simulators in place of everything real.
    fn over<'v>(&self, vars: &'v dyn Vars) -> Overlay<'v> {
        let overlay = Overlay::on(vars)
            .by("demo")
            .with("OPEN_SKY_API_URL", self.api_url)
            .with("OPEN_SKY_TOKEN_URL", self.token_url)
            .with("OPEN_SKY_CLIENT_ID", "flightbell")
            .with("OPEN_SKY_CLIENT_SECRET", "simulator")
            .with("TELEGRAM_API_URL", self.telegram)
            .with("TELEGRAM_BOT_TOKEN", self.token)
            .with("COLLECT_INTERVAL_SECONDS", COLLECT_INTERVAL_SECONDS)
            .without("TELEGRAM_BOT_TOKEN_FILE")
            .with_default("RUST_LOG", "warn");
        // What the demo asks runs beside it: proxies, usable or not, have no part in that.
        let overlay = http_client::PROXY_KEYS.into_iter().fold(overlay, Overlay::without);
        real_ones().fold(overlay, Overlay::without)
    }
}

/// A user of the demo, and what they watch.
struct Person {
    email: &'static str,
    first_name: &'static str,
    chat_id: i64,
    interest: fn() -> Value,
}

/// Two people and the two stories of the recordings (the crossings are described in the recordings'
/// own README).
const PEOPLE: [Person; 2] = [
    Person {
        email: "camille@flightbell.example",
        first_name: "Camille",
        chat_id: 7_001,
        // Paris: under 10 from 13:17 to 13:22, over 23 from 13:30 to 13:35.
        interest: || json!({"airport_code": "LFPG", "metric": "live", "high_value": 23, "low_value": 10}),
    },
    Person {
        email: "sam@flightbell.example",
        first_name: "Sam",
        chat_id: 7_002,
        // San Francisco: 458 arrivals on the older day, 353 on the newer.
        interest: || json!({"airport_code": "KSFO", "metric": "arrivals", "low_value": 400}),
    },
];

/// Plays the recordings until a signal.
///
/// # Errors
/// As `up`, or when the people of the demo cannot be set up.
pub async fn run(args: cli::Demo, vars: &dyn Vars) -> anyhow::Result<()> {
    bind_guard::refuse("--listen", args.listen, args.insecure_open)?;
    bind_guard::refuse("--page", args.page, args.insecure_open)?;
    settings::check(SERVICES, &Simulators::LATER.over(vars))?;
    let folder = fresh_folder().await.with_context(|| {
        format!(
            "make the demo's folder in {}: set TMPDIR to a folder that can be written",
            std::env::temp_dir().display()
        )
    })?;
    let stopping = CancellationToken::new();
    let clock = Clock::replay(opensky::begins_at(), args.speed);
    let (open_sky, telegram) = simulators(clock, &args, &stopping).await?;
    let (api_url, token_url, page) = (open_sky.api_url(), open_sky.token_url(), telegram.url());
    let addresses = Simulators { api_url: &api_url, token_url: &token_url, telegram: &page, token: telegram.token() };
    let vars = addresses.over(vars);
    let setup = Setup {
        services: SERVICES,
        vars: &vars,
        folder: folder.path().join("data"),
        listen: args.listen,
        clocks: Clocks { flights: clock },
        source: Some(SOURCE.to_owned()),
    };
    let data = setup.folder.clone();
    announce(args.speed);
    run_with(setup, async move |addr| {
        let certificate = data.join("tls/cert.pem");
        set_up_people(addr, &certificate).await.context("set up the people of the demo")?;
        invite(&page, addr, &certificate);
        Ok(())
    })
    .await
}

/// A folder of this demo's own. What demos left that were killed goes: their folders, and their servers.
async fn fresh_folder() -> std::io::Result<tempfile::TempDir> {
    for entry in std::env::temp_dir().read_dir()?.filter_map(Result::ok) {
        let is_a_demos = entry.file_name().to_string_lossy().starts_with(FOLDER_PREFIX);
        let age = entry.metadata().ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
        // A young one may belong to a demo that is just being started and holds no lock yet.
        if is_a_demos && age.is_some_and(|age| age > Duration::from_secs(30)) {
            clear_away(&entry.path()).await;
        }
    }
    // The servers may run as another user, which has to pass through.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    tempfile::Builder::new().prefix(FOLDER_PREFIX).permissions(open).tempdir()
}

/// Removes the folder of a demo that runs no more. A folder that cannot be had is another process's.
async fn clear_away(folder: &Path) {
    let data = folder.join("data");
    let Ok(None) = DataDir::holder(&data) else { return };
    let Ok(_held) = DataDir::open(&data) else { return };
    let cleared = async {
        orphans::stop_all(&data).await?;
        tokio::fs::remove_dir_all(folder).await?;
        anyhow::Ok(())
    };
    if let Err(error) = cleared.await {
        tracing::warn!("clear away {}: {error:#}", folder.display());
    }
}

async fn simulators(
    clock: Clock,
    args: &cli::Demo,
    stopping: &CancellationToken,
) -> anyhow::Result<(OpenSky, Telegram)> {
    let time: ClockFn = Arc::new(move || clock.now());
    let recording = Source::Recording(Arc::new(Recording::load()?));
    let open_sky = OpenSky::start(opensky::Options::new(time.clone()), recording, stopping).await?;
    let mut page = Page::replay(time, args.speed);
    page.chat_names = PEOPLE.iter().map(|person| (person.chat_id, person.first_name.to_owned())).collect();
    let options = telegram::Options { addr: args.page, ..telegram::Options::new(page) };
    let telegram = Telegram::start(options, stopping)
        .await
        .with_context(|| format!("serve the page on {}: choose another address with --page", args.page))?;
    Ok((open_sky, telegram))
}

async fn set_up_people(addr: SocketAddr, certificate: &Path) -> anyhow::Result<()> {
    let certificate = tokio::fs::read(certificate).await.context("read the certificate")?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(&certificate).context("understand the certificate")?])
        .timeout(Duration::from_secs(10))
        .build()
        .context("prepare a client")?;
    let post = async |path: &str, key: String, body: Value| -> anyhow::Result<()> {
        let url = format!("https://{addr}{path}");
        let response = client.post(url).header("Idempotency-Key", key).json(&body).send().await;
        let response = response.with_context(|| format!("reach {path}"))?;
        let status = response.status();
        let answer = response.text().await.unwrap_or_default();
        ensure!(status.is_success(), "{path} answered {status}: {answer}");
        Ok(())
    };
    for person in PEOPLE {
        let email = person.email;
        let user = json!({"email": email, "first_name": person.first_name, "last_name": "of the demo"});
        post("/user-manager/users", format!("{email}-user"), user).await?;
        let chat = json!({"email": email, "telegram_chat_id": person.chat_id});
        post("/user-manager/users/telegram", format!("{email}-chat"), chat).await?;
        let mut interest = (person.interest)();
        interest["email"] = email.into();
        post("/data-collector/interests", format!("{email}-interest"), interest).await?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the person at the terminal is about to see")]
fn announce(speed: u32) {
    println!("This is a replay of recorded traffic, {speed} times as fast, not live data:");
    println!("Paris on 7 October 2021, San Francisco in March 2020. Starting: some ten seconds.");
}

#[expect(clippy::print_stdout, reason = "what the person at the terminal is to do next")]
fn invite(page: &str, addr: SocketAddr, certificate: &Path) {
    println!("open {page}");
    println!("The first messages of the replay arrive there within two minutes. Ctrl-C ends it.");
    println!("For curl, as in the README:");
    println!("export AIR=https://{addr}");
    println!("export CA={}", certificate.display());
}

#[cfg(test)]
mod tests {
    use runtime::config::Reader;

    use super::*;

    #[test]
    fn nothing_real_is_used_whatever_the_shell_has_set() {
        let real: std::collections::HashMap<String, String> = real_ones().map(|key| (key, "real".to_owned())).collect();
        let vars = Simulators::LATER.over(&real);
        for key in real_ones() {
            assert_eq!(Reader::new(&vars).raw(&key), None, "{key}");
        }
        let (_, external) = settings::check(SERVICES, &vars).expect("a demo needs no settings");
        assert!(external.kafka.is_none() && external.databases.is_none());
    }
}
