//! The stand-ins: airports whose traffic rises and falls, and the chats of people.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use simulators::{
    opensky::{self, Auth, Budget, OpenSky, Scripted, Source},
    system_clock,
    telegram::{self, Page, Telegram},
};
use tokio::{sync::watch, task::JoinSet, time::sleep};
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

/// The threshold that everybody watches.
pub const HIGH: u32 = 10;
/// How many aircraft are near an airport: numbers below and above the threshold that take turns, so that each message
/// can be told from the ones before and after. None is a tenth of another, which would be doubted.
const CALM: std::ops::Range<u32> = 5..10;
const BUSY: std::ops::Range<u32> = 12..42;

/// How long after a change an answer may still be of the time before it, by the clocks of two processes.
const CLOCKS: TimeDelta = TimeDelta::seconds(2);

/// Credits without end: what they are spent on is another test's matter.
const CREDITS: u32 = 100_000_000;

/// The stand-ins, and what makes traffic change.
pub struct Sky {
    traffic: Traffic,
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
        let page = Page::replay(system_clock(), 1);
        let options = telegram::Options { addr: TELEGRAM, token: TOKEN.to_owned(), ..telegram::Options::new(page) };
        let telegram = Telegram::start(options, &stopping).await?;
        let traffic = Traffic { scripted, history: Arc::default() };
        for airport in AIRPORTS {
            traffic.set(airport, CALM.start)?;
        }
        let (pace, paces) = watch::channel(None);
        let mut changing = JoinSet::new();
        changing.spawn(change(traffic.clone(), paces));
        Ok(Self { traffic, open_sky, telegram, pace, _changing: changing })
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

    /// Makes one airport busy, or calm.
    ///
    /// # Errors
    /// When the airport is unknown.
    pub fn set(&self, airport: &str, is_busy: bool) -> anyhow::Result<()> {
        self.traffic.set(airport, if is_busy { BUSY.start } else { CALM.start })
    }

    /// Whether there were so many aircraft near an airport when it was looked at.
    pub fn was(&self, airport: &str, aircraft: u32, at: DateTime<Utc>) -> bool {
        let history = self.traffic.history.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = history.get(airport).map(Vec::as_slice).unwrap_or_default();
        changes.iter().enumerate().any(|(place, (since, count))| {
            let until = changes.get(place + 1).map_or(DateTime::<Utc>::MAX_UTC, |(next, _)| *next);
            *count == aircraft && *since <= at + CLOCKS && at <= until.checked_add_signed(CLOCKS).unwrap_or(until)
        })
    }

    /// What every chat was told about every airport, in its order.
    pub fn told(&self) -> Vec<(i64, String, Told)> {
        let delivered = self.telegram.delivered();
        let read =
            |sent: &telegram::Sent| read_message(&sent.shown).map(|(airport, told)| (sent.chat_id, airport, told));
        delivered.iter().filter_map(read).collect()
    }

    /// How many messages came that say something else.
    pub fn not_understood(&self) -> usize {
        self.telegram.delivered().iter().filter(|sent| read_message(&sent.shown).is_none()).count()
    }

    /// Waits for the first message.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn first_message(&self, limit: Duration) -> anyhow::Result<()> {
        self.telegram.wait_for_delivered(limit, 1).await.map(drop).context("wait for the first message")
    }

    /// Whether one of the last requests to OpenSky bore an account's token.
    pub fn is_signed_in(&self) -> bool {
        self.open_sky.requests().iter().rev().take(AIRPORTS.len()).any(|request| request.auth == Auth::Token)
    }
}

/// Since when there are how many aircraft near an airport.
type Change = (DateTime<Utc>, u32);

/// The traffic, and what it was.
#[derive(Clone)]
struct Traffic {
    scripted: Scripted,
    history: Arc<Mutex<HashMap<String, Vec<Change>>>>,
}

impl Traffic {
    fn set(&self, airport: &str, aircraft: u32) -> anyhow::Result<()> {
        let found = airports::lookup(airport).with_context(|| format!("there is no airport {airport}"))?;
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.entry(airport.to_owned()).or_default().push((Utc::now(), aircraft));
        self.scripted.set_aircraft(airport, found.latitude, found.longitude, aircraft);
        Ok(())
    }
}

/// Changes one airport after the other, at the pace that is asked for.
async fn change(traffic: Traffic, mut paces: watch::Receiver<Option<Duration>>) {
    let (mut calm, mut busy) = (CALM.cycle(), BUSY.cycle());
    let mut is_busy = [false; AIRPORTS.len()];
    let mut places = (0..AIRPORTS.len()).cycle();
    loop {
        let pace = *paces.borrow_and_update();
        let due = async {
            match pace {
                Some(every) => sleep(every).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            changed = paces.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
        }
        let place = places.next().unwrap_or_default();
        is_busy[place] = !is_busy[place];
        let aircraft = if is_busy[place] { busy.next() } else { calm.next() };
        // The airport was found before.
        drop(traffic.set(AIRPORTS[place], aircraft.unwrap_or(HIGH)));
    }
}
