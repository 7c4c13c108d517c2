//! What every client does with the library's log lines.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::core::{advice::advice, log_throttle::LogThrottle};

/// In an outage the library reports several errors a second; one line in this time is enough.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a problem counts as the reason of what fails now.
const PROBLEM_LIFETIME: Duration = Duration::from_secs(30);
/// How many of the library's lines are looked at for the reason of a failure.
const LINES_TO_READ: usize = 10;
/// The facility of the lines about a producer's number, and how those end after which the library asks
/// again by itself: a broker that has just started has no number to give yet.
const PRODUCER_ID: &str = "GETPID";
const RETRYING: &str = "retrying";

/// Writes the library's lines to our log, errors of one client at most once per [`LINE_INTERVAL`].
pub(crate) struct ClientLog {
    client: &'static str,
    throttle: Mutex<LogThrottle>,
    last: Mutex<Option<Problem>>,
    is_over: AtomicBool,
}

/// How much a problem says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// What follows from others: that no broker is left.
    Summary,
    /// What happened.
    Event,
    /// What can be done about it.
    Advice,
}

struct Problem {
    at: Instant,
    what: String,
    weight: Weight,
}

impl Problem {
    fn is_recent(&self) -> bool {
        self.at.elapsed() < PROBLEM_LIFETIME
    }
}

impl ClientLog {
    /// The log of a client that is called `client` in the log.
    pub(crate) fn of(client: &'static str) -> Self {
        let throttle = Mutex::new(LogThrottle::new(LINE_INTERVAL));
        Self { client, throttle, last: Mutex::default(), is_over: AtomicBool::new(false) }
    }

    /// The client is no longer used: that its brokers go now is no problem.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Notes an error that the library copes with by itself.
    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let is_summary = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        self.note(&format!("{error}: {reason}"), if is_summary { Weight::Summary } else { Weight::Event });
    }

    /// Reports a problem that the library copes with by itself.
    pub(crate) fn report(&self, what: &str) {
        self.note(what, Weight::Event);
    }

    fn note(&self, what: &str, weight: Weight) {
        if self.is_over.load(Ordering::Acquire) {
            return tracing::debug!("kafka {}, closing: {what}", self.client);
        }
        let now = Instant::now();
        let advised = advice(what).map(|advice| format!("{advice} ({what})"));
        let what = advised.as_deref().unwrap_or(what);
        let weight = if advised.is_some() { Weight::Advice } else { weight };
        self.remember(Problem { at: now, what: what.to_owned(), weight });
        let admitted = self.throttle.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        match admitted {
            Some(0) => tracing::warn!("kafka {}: {what}", self.client),
            Some(more) => tracing::warn!("kafka {}: {what} (and {more} more lines like it)", self.client),
            None => tracing::debug!("kafka {}: {what}", self.client),
        }
    }

    /// The last problem that is not long past, which says more about an outage than a time-out does,
    /// among those that say the most.
    pub(crate) fn last_problem(&self) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|problem| problem.is_recent()).map(|problem| problem.what.clone())
    }

    fn remember(&self, problem: Problem) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let says_more = last.as_ref().is_some_and(|last| last.weight > problem.weight && last.is_recent());
        if !says_more {
            *last = Some(problem);
        }
    }

    pub(crate) fn line(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            _ if facility == PRODUCER_ID && line.ends_with(RETRYING) => {
                tracing::debug!("kafka {}: {facility}: {line}", self.client)
            }
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => self.report(&format!("{facility}: {line}")),
            _ if advice(line).is_some() => self.report(&format!("{facility}: {line}")),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!("kafka {}: {facility}: {line}", self.client);
            }
        }
    }
}

/// The context of a client that only logs.
pub(crate) struct Plain(pub(crate) ClientLog);

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl ConsumerContext for Plain {}

/// Why a client that blocks got no answer: what it heard meanwhile says more than its time-out.
pub(crate) fn reason(client: &BaseConsumer<Plain>, error: &KafkaError) -> String {
    // Lines wait in the client's queue; each call takes one, and none of them is a record.
    let log = || client.context().0.last_problem();
    (0..LINES_TO_READ).for_each(|_| drop(client.poll(Duration::ZERO)));
    log().unwrap_or_else(|| error.to_string())
}
