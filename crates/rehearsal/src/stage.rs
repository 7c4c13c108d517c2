//! What all parts of the rehearsal share, and the account that each of them is closed with.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use reqwest::Client;
use tokio::time::{Instant, sleep};

use crate::{
    cluster::Cluster,
    core::{
        report::{Figure, Section},
        told::{self, Differences, Told},
    },
    load::Load,
    people::{self, PEOPLE, Reading},
    sky::{AIRPORTS, HIGH, Sky},
    wait::{LOOK, wait_until},
};

/// How long everything that was read may take until it was told, at a part's end.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// How many readings of each airport are waited for after the last one was told, so that a repetition would be seen.
const READINGS_AFTER: usize = 2;

/// The same at the very end.
const READINGS_AT_THE_END: usize = 5;

/// Which part of the requests must have been made: whoever waits for an answer asks nothing meanwhile.
const RATE_KEPT: f64 = 0.8;

/// How long 99 of a hundred answers may take.
const SLOWEST: Duration = Duration::from_secs(2);

/// How many requests a second people make.
pub const RATE: u32 = 40;

/// How often an airport changes while people ask: each of eight every 16 s, three readings.
pub const PACE: Duration = Duration::from_secs(2);

/// The cluster, the stand-ins, and one who asks.
pub struct Stage {
    /// The lab's node.
    pub cluster: Cluster,
    /// The stand-ins.
    pub sky: Sky,
    /// A client that asks as people do.
    pub client: Client,
    /// Whom the client trusts.
    pub authority: String,
    /// Since when readings count, and behind how many messages.
    opened: (DateTime<Utc>, usize),
    /// Readings and messages that earlier parts have accounted for.
    accounted: Account,
}

/// Readings and messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    /// Readings of all airports.
    pub readings: usize,
    /// Of those, the ones without a value.
    pub unknown: usize,
    /// Of those, the ones with a value that was not there.
    pub invented: usize,
    /// Messages that had to come, to all people.
    pub expected: usize,
    /// How those differ from what came.
    pub differences: Differences,
}

/// People ask and airports change.
pub struct Busy {
    load: Load,
    rate: u32,
    begun: Instant,
}

/// Whether those who ask may see a connection break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// They may not.
    Stand,
    /// They may: the gateway's own process dies with its connections.
    MayBreak,
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

impl Stage {
    /// Before anybody is registered.
    pub fn new(cluster: Cluster, sky: Sky, client: Client, authority: String) -> Self {
        Self { cluster, sky, client, authority, opened: (Utc::now(), 0), accounted: Account::default() }
    }

    /// Counts from now on: everybody is registered, and every airport is calm.
    ///
    /// # Errors
    /// When an airport is not read any more.
    pub async fn open_account(&mut self) -> anyhow::Result<()> {
        self.new_readings(1).await?;
        self.opened = (Utc::now(), self.sky.told().len());
        Ok(())
    }

    /// Waits until the last message about an airport says that it is calm again.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn recovered(&self, airport: &str) -> anyhow::Result<()> {
        let is_last = |told: &[(i64, String, Told)]| {
            told.iter()
                .rfind(|(_, code, _)| code == airport)
                .is_some_and(|(_, _, told)| matches!(told, Told::Recovered(_)))
        };
        wait_until("an airport to be calm again", SETTLE_LIMIT, async || Ok(is_last(&self.sky.told()))).await.map(drop)
    }

    /// Lets people ask and airports change.
    ///
    /// # Errors
    /// When a client cannot be made.
    pub fn begin(&self, rate: u32, pace: Duration) -> anyhow::Result<Busy> {
        self.sky.set_pace(Some(pace));
        Ok(Busy { load: Load::begin(&self.authority, rate)?, rate, begun: Instant::now() })
    }

    /// Ends what [`Stage::begin`] began, waits until all is told, and adds the figures of both to a section.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn end(&mut self, busy: Busy, connections: Connections, section: &mut Section) -> anyhow::Result<()> {
        let answers = busy.load.end().await;
        let seconds = busy.begun.elapsed().as_secs_f64();
        let figures = &mut section.figures;
        figures.push(Figure::at_least(
            format!("requests in {seconds:.0} s"),
            answers.asked,
            (f64::from(busy.rate) * seconds * RATE_KEPT).round() as usize,
        ));
        figures.push(Figure::none("failed requests", count(answers.failed())));
        let failures: Vec<_> = answers.failures.iter().map(|(what, count)| format!("{count} × {what}")).collect();
        if !failures.is_empty() {
            figures.push(Figure::of("what was seen of them", failures.join(", ")));
        }
        let again = "requests that were asked again";
        figures.push(match connections {
            Connections::Stand => Figure::none(again, count(answers.asked_again)),
            Connections::MayBreak => Figure::of(again, answers.asked_again),
        });
        let median = answers.percentile(50).as_millis();
        figures.push(Figure::of("time of an answer, median", format!("{median} ms")));
        figures.push(Figure::within("of 99 % of them", answers.percentile(99), SLOWEST));
        self.settle(section).await
    }

    /// Stops the changes, waits until everything that was read is told and for some readings more, in which a
    /// repetition would be seen, and adds what was lost or repeated.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn settle(&mut self, section: &mut Section) -> anyhow::Result<()> {
        self.sky.set_pace(None);
        let begun = Instant::now();
        self.new_readings(1).await?;
        let mut account = self.account().await?;
        while !account.differences.is_none() && begun.elapsed() < SETTLE_LIMIT {
            sleep(LOOK).await;
            account = self.account().await?;
        }
        self.new_readings(READINGS_AFTER).await?;
        let now = self.account().await?;
        let before = std::mem::replace(&mut self.accounted, now);
        let since = |of: fn(&Account) -> usize| count(of(&now)) - count(of(&before));
        section.figures.extend([
            Figure::of("readings", since(|all| all.readings)),
            Figure::none("readings without a value", since(|all| all.unknown)),
            Figure::none("readings of what was not there", since(|all| all.invented)),
            Figure::at_least("alerts that had to be told", now.expected - before.expected, 1),
            Figure::none("lost alerts", since(|all| all.differences.lost)),
            Figure::none("repeated alerts", since(|all| all.differences.repeated)),
        ]);
        Ok(())
    }

    /// Everything since the account was opened, after some more readings.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn whole(&mut self, section: &mut Section) -> anyhow::Result<()> {
        self.new_readings(READINGS_AT_THE_END).await?;
        let all = self.account().await?;
        section.figures.extend([
            Figure::of("readings", all.readings),
            Figure::none("readings of what was not there", count(all.invented)),
            Figure::at_least("alerts that had to be told", all.expected, 1),
            Figure::none("lost alerts", count(all.differences.lost)),
            Figure::none("repeated alerts", count(all.differences.repeated)),
            Figure::none("messages that say something else", count(self.sky.not_understood())),
        ]);
        Ok(())
    }

    /// Waits until each airport was read so many times from now on.
    async fn new_readings(&self, count: usize) -> anyhow::Result<()> {
        let (since, mut left) = (Utc::now(), AIRPORTS.to_vec());
        wait_until("airports to be read", SETTLE_LIMIT, async || {
            while let Some(airport) = left.last() {
                let readings = people::readings(&self.client, airport).await?;
                if readings.iter().filter(|reading| reading.observed_at > since).count() < count {
                    return Ok(false);
                }
                left.pop();
            }
            Ok(true)
        })
        .await
        .map(drop)
    }

    /// Everything since the beginning.
    async fn account(&self) -> anyhow::Result<Account> {
        let mut of_chats: HashMap<(i64, String), Vec<Told>> = HashMap::new();
        for (chat, airport, what) in self.sky.told().into_iter().skip(self.opened.1) {
            of_chats.entry((chat, airport)).or_default().push(what);
        }
        let mut account = Account::default();
        for airport in AIRPORTS {
            let readings = people::readings(&self.client, airport).await?;
            let counted = readings.iter().filter(|reading| reading.observed_at > self.opened.0);
            let counted: Vec<_> = counted.collect();
            let is_invented = |reading: &&&Reading| {
                reading.value.is_some_and(|value| !self.sky.was(airport, value, reading.observed_at))
            };
            account.invented += counted.iter().filter(is_invented).count();
            let values: Vec<_> = counted.iter().map(|reading| reading.value).collect();
            let expected = told::expected(&values, HIGH);
            account.readings += values.len();
            account.unknown += values.iter().filter(|value| value.is_none()).count();
            for number in 0..PEOPLE {
                let told = of_chats.remove(&(people::chat(number), airport.to_owned())).unwrap_or_default();
                account.expected += expected.len();
                account.differences = account.differences.plus(told::compare(&expected, &told));
            }
        }
        // A message to a chat or about an airport that nobody has.
        account.differences.repeated += of_chats.values().map(Vec::len).sum::<usize>();
        Ok(account)
    }
}
