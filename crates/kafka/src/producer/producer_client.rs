use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};
use tokio::sync::Notify;

use super::OutgoingRecord;
use crate::{
    client::ClientLog,
    config::{KafkaConfig, Profile},
};

/// How long the thread that receives acknowledgements polls before it looks whether it is still wanted.
/// The library cuts a wait to whole milliseconds and spins through the rest, for which rdkafka's own
/// thread takes a hundredth of a core; what is more than whole here has passed when the wait ends.
const TURN: Duration = Duration::from_micros(250_100);

/// The name of that thread, at most 15 bytes.
const THREAD_NAME: &str = "kafka-producer";

/// One client with the thread that receives its acknowledgements.
pub(super) struct ProducerClient {
    client: Option<Arc<BaseProducer<Deliveries>>>,
    is_closed: Arc<AtomicBool>,
}

/// What one caller waits for.
pub(super) struct DeliveryTracker {
    /// Messages without an answer, and one more until the caller has handed over all of them.
    outstanding: AtomicUsize,
    failed: AtomicUsize,
    first: OnceLock<RDKafkaErrorCode>,
    answered: Notify,
}

impl DeliveryTracker {
    pub(super) fn new() -> Self {
        Self {
            outstanding: AtomicUsize::new(1),
            failed: AtomicUsize::new(0),
            first: OnceLock::new(),
            answered: Notify::new(),
        }
    }

    fn expect_one_more(&self) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, code: RDKafkaErrorCode) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.first.get_or_init(|| code);
    }

    fn answer(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.answered.notify_one();
        }
    }

    /// Waits for every answer: how many messages failed, and why the first of them did.
    pub(super) async fn all_answered(&self) -> Option<(usize, RDKafkaErrorCode)> {
        self.answer();
        self.answered.notified().await;
        let failed = self.failed.load(Ordering::Acquire);
        self.first.get().map(|code| (failed, *code))
    }
}

impl ProducerClient {
    pub(super) fn open(config: &KafkaConfig, profile: Profile) -> KafkaResult<Self> {
        let context = Deliveries { log: ClientLog::of("producer") };
        let client: Arc<BaseProducer<_>> = Arc::new(config.producer(profile).create_with_context(context)?);
        let is_closed = Arc::new(AtomicBool::new(false));
        let (polled, is_over) = (client.clone(), is_closed.clone());
        let poll = move || {
            while !is_over.load(Ordering::Acquire) {
                polled.poll(TURN);
            }
        };
        let thread = thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(poll);
        thread.map_err(|error| KafkaError::ClientCreation(format!("start a thread: {error}")))?;
        Ok(Self { client: Some(client), is_closed })
    }

    /// Whether the client is of no more use: a fatal error ends an idempotent producer for good.
    pub(super) fn is_dead(&self) -> bool {
        self.client.as_ref().is_none_or(|client| client.client().fatal_error().is_some())
    }

    /// Hands a message over. `false`: the queue is full, try again.
    pub(super) fn hand_over(&self, message: &OutgoingRecord<'_>, tracker: &Arc<DeliveryTracker>) -> bool {
        let Some(client) = &self.client else {
            tracker.failed(RDKafkaErrorCode::Fail);
            return true;
        };
        tracker.expect_one_more();
        let record = BaseRecord {
            topic: message.topic,
            partition: message.partition.map(|partition| partition.0),
            payload: message.value.as_deref(),
            key: message.key.as_deref(),
            timestamp: None,
            headers: message.native_headers(),
            delivery_opaque: tracker.clone(),
        };
        let Err((error, _)) = client.send::<[u8], [u8]>(record) else { return true };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::InvalidArgument);
        let is_full = code == RDKafkaErrorCode::QueueFull;
        if !is_full {
            tracker.failed(code);
        }
        tracker.answer();
        !is_full
    }

    pub(super) fn flush(&self, limit: Duration) -> KafkaResult<()> {
        self.client.as_ref().map_or(Ok(()), |client| client.flush(limit))
    }

    /// Asks for `topic`'s leaders.
    pub(super) fn probe(&self, topic: &str, limit: Duration) -> Result<(), String> {
        let Some(client) = &self.client else { return Err("the client is closed".to_owned()) };
        match client.client().fetch_metadata(Some(topic), limit) {
            Ok(_) => Ok(()),
            Err(error) => {
                let problem = client.context().log.last_problem();
                Err(format!("does not answer: {}", problem.unwrap_or_else(|| error.to_string())))
            }
        }
    }
}

impl Drop for ProducerClient {
    fn drop(&mut self) {
        // Closing waits for the client's threads, which the task that drops it last must not: closing is left to the
        // polling thread, which holds the client until it is told.
        if let Some(client) = self.client.take() {
            client.context().log.end();
        }
        self.is_closed.store(true, Ordering::Release);
    }
}

/// Receives acknowledgements and counts them for their callers.
pub(super) struct Deliveries {
    log: ClientLog,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.log.line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<DeliveryTracker>;

    fn delivery(&self, result: &DeliveryResult<'_>, tracker: Arc<DeliveryTracker>) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            tracker.failed(code);
        }
        tracker.answer();
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    /// How often the threads of this process that hear acknowledgements have gone to sleep, and their CPU time.
    fn spent() -> (u64, Duration) {
        let tasks = fs::read_dir("/proc/self/task").expect("the threads").filter_map(Result::ok);
        let hearing = tasks
            .map(|task| task.path())
            .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == THREAD_NAME));
        let each = hearing.filter_map(|task| {
            let status = fs::read_to_string(task.join("status")).ok()?;
            let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            let times = fs::read_to_string(task.join("schedstat")).ok()?;
            Some((sleeps.trim().parse::<u64>().ok()?, times.split_whitespace().next()?.parse::<u64>().ok()?))
        });
        let (sleeps, nanos) = each.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
        (sleeps, Duration::from_nanos(nanos))
    }

    #[test]
    fn a_producer_without_work_wakes_a_few_times_a_second() {
        let config = KafkaConfig::plain("127.0.0.1:1").with("reconnect.backoff.max.ms", "60000");
        let links = [(); 4].map(|()| ProducerClient::open(&config, Profile::Latency).expect("a client"));
        // It is a while that is measured here, not a wait for anything.
        thread::sleep(8 * TURN);
        let (begun, (slept, before)) = (Instant::now(), spent());
        thread::sleep(8 * TURN);
        let (elapsed, (sleeps, spent)) = (begun.elapsed(), spent());
        // A thread that spins does not sleep but takes all of a core, and one that asks each millisecond sleeps a
        // thousand times. CPU time alone says little on a busy machine, where every waking is dear.
        let turns = u64::try_from(elapsed.as_nanos() / TURN.as_nanos()).expect("a few turns") * 4;
        assert!(sleeps - slept <= 5 * turns, "{} sleeps of four producers in {turns} turns", sleeps - slept);
        let spent = spent.saturating_sub(before);
        assert!(spent < elapsed / 4, "four producers took {spent:?} in {elapsed:?}");
        drop(links);
    }
}
