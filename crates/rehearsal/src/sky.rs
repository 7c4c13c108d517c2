//! The stand-ins: airports whose traffic rises and falls, and the chats of people.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use simulators::{
    opensky::{self, Auth, Budget, OpenSky, Scripted, Source},
    system_clock,
    telegram::{self, Page, Telegram},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::core::told::{Told, read_message};

/// Where the overlay `rehearsal` looks for OpenSky and Telegram.
const OPEN_SKY: SocketAddr = SocketAddr::new(NODE, 18_081);
const TELEGRAM: SocketAddr = SocketAddr::new(NODE, 18_082);
const NODE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));

/// The token that the lab's credentials name.
const TOKEN: &str = "123456:of-a-stand-in";

/// The airports, far from each other.
pub const AIRPORTS: [&str; 8] = ["LICC", "EGLL", "LFPG", "LEMD", "KJFK", "RJTT", "YSSY", "FACT"];

/// Aircraft near an airport, calm and busy; and the threshold between them.
pub const CALM: u32 = 6;
pub const BUSY: u32 = 12;
pub const HIGH: u32 = 10;

/// Credits without end: what they are spent on is another test's matter.
const CREDITS: u32 = 100_000_000;

/// The stand-ins, and what makes traffic change.
pub struct Sky {
    scripted: Scripted,
    open_sky: OpenSky,
    telegram: Telegram,
    pace: watch::Sender<Option<Duration>>,
    _changing: JoinSet<()>,
}

impl Sky {
    /// Serves both; every airport is calm.
    ///
    /// # Errors
    /// When an address cannot be bound: the node's network is not ours.
    pub async fn start() -> anyhow::Result<Self> {
        let (scripted, stopping) = (Scripted::new(), CancellationToken::new());
        let budget = Budget { signed_in: CREDITS, anonymous: CREDITS };
        let options = opensky::Options { addr: OPEN_SKY, budget, ..opensky::Options::new(system_clock()) };
        let open_sky = OpenSky::start(options, Source::Scripted(scripted.clone()), &stopping).await?;
        let page = Page::replay(Arc::clone(&system_clock()), 1);
        let options = telegram::Options { addr: TELEGRAM, token: TOKEN.to_owned(), ..telegram::Options::new(page) };
        let telegram = Telegram::start(options, &stopping).await?;
        for airport in AIRPORTS {
            set(&scripted, airport, CALM)?;
        }
        let (pace, paces) = watch::channel(None);
        let mut changing = JoinSet::new();
        changing.spawn(change(scripted.clone(), paces));
        Ok(Self { scripted, open_sky, telegram, pace, _changing: changing })
    }

    /// The account that the stand-in for OpenSky knows.
    pub fn account() -> (String, String) {
        let options = opensky::Options::new(system_clock());
        (options.client_id, options.client_secret)
    }

    /// From now on one airport after the other changes, one each `every`; without it, none.
    pub fn set_pace(&self, every: Option<Duration>) {
        self.pace.send_replace(every);
    }

    /// Sets one airport's traffic.
    ///
    /// # Errors
    /// When the airport is unknown.
    pub fn set(&self, airport: &str, aircraft: u32) -> anyhow::Result<()> {
        set(&self.scripted, airport, aircraft)
    }

    /// What every chat was told about every airport, in its order.
    pub fn told(&self) -> Vec<(i64, String, Told)> {
        let delivered = self.telegram.delivered();
        let read =
            |sent: &telegram::Sent| read_message(&sent.shown).map(|(airport, told)| (sent.chat_id, airport, told));
        delivered.iter().filter_map(read).collect()
    }

    /// Waits for the first message.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn first_message(&self, limit: Duration) -> anyhow::Result<()> {
        self.telegram.wait_for_delivered(limit, 1).await.map(drop).context("wait for the first message")
    }

    /// Whether OpenSky has been asked with an account's token since the last so many requests.
    pub fn is_signed_in(&self) -> bool {
        self.open_sky.requests().iter().rev().take(AIRPORTS.len()).any(|request| request.auth == Auth::Token)
    }
}

fn set(scripted: &Scripted, airport: &str, aircraft: u32) -> anyhow::Result<()> {
    let found = airports::lookup(airport).with_context(|| format!("there is no airport {airport}"))?;
    scripted.set_aircraft(airport, found.latitude, found.longitude, aircraft);
    Ok(())
}

/// Changes one airport after the other, at the pace that is asked for.
async fn change(scripted: Scripted, mut paces: watch::Receiver<Option<Duration>>) {
    let mut is_busy = [false; AIRPORTS.len()];
    let mut turn = 0;
    let mut next = Instant::now();
    loop {
        let pace = *paces.borrow_and_update();
        let due = async {
            match pace {
                Some(every) => sleep_until(next.max(Instant::now() - every) + every).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            changed = paces.changed() => {
                if changed.is_err() { return; }
                next = Instant::now();
                continue;
            }
        }
        next = Instant::now();
        let place = turn % AIRPORTS.len();
        is_busy[place] = !is_busy[place];
        // The airport was found before.
        drop(set(&scripted, AIRPORTS[place], if is_busy[place] { BUSY } else { CALM }));
        turn += 1;
    }
}
