//! How fast the producer and the consume loop are on the Kafka of `KAFKA_BROKER_URL`:
//! `cargo run --release -p stream --example throughput [MESSAGES]`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use events::{
    headers,
    topics::{Namespace, TO_ALERT_SYSTEM},
};
use kafka::{
    Consumer, Failure, Handler, KafkaConfig, OutgoingRecord, Producer, Profile, Record, Settled, Subscription, topics,
};
use runtime::{
    ServiceRuntime,
    clock::Clock,
    config::{ProcessEnv, Reader},
};
use tokio_util::sync::CancellationToken;

/// Messages of one page of the fan-out.
const PAGE: usize = 5000;

struct Counting(Arc<AtomicUsize>);

impl Handler for Counting {
    async fn handle(&mut self, batch: &[Record]) -> Result<Vec<Settled>, Failure> {
        self.0.fetch_add(batch.len(), Ordering::Relaxed);
        Ok(vec![Settled::Done("handled"); batch.len()])
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut reader = Reader::new(&ProcessEnv);
    let config = KafkaConfig::read(&mut reader);
    let config = reader.finish(|| config)?;
    let messages: usize = std::env::args().nth(1).map_or(Ok(500_000), |count| count.parse())?;
    let names = Namespace::prefixed(format!("throughput-{}-", std::process::id()));
    topics::create(&config, &names, &CancellationToken::new(), drop).await?;
    let topic = names.topic(&TO_ALERT_SYSTEM);

    let producer = Producer::unwatched(&config, Profile::Throughput)?;
    report_latency(&producer, &topic).await?;
    produce(&producer, &topic, messages, 2).await?;
    consume(&config, &topic, &producer, messages + 101).await
}

/// The first message, and the time of later ones.
async fn report_latency(producer: &Producer, topic: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    producer.warm_up(topic).await;
    println!("warm-up: {:?}", begun.elapsed());
    // As much as a service takes to start.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    producer.send(OutgoingRecord::to(topic).with_value(&b"{}"[..])).await?;
    println!("first acknowledgement: {:?}", begun.elapsed());
    let mut waits = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        producer.send(OutgoingRecord::to(topic).with_value(&b"{}"[..])).await?;
        waits.push(begun.elapsed());
    }
    waits.sort_unstable();
    println!("later acknowledgements: p50 {:?}, p99 {:?}", waits[50], waits[98]);
    Ok(())
}

/// Pages of 450 bytes a message with `header_count` headers, each page acknowledged before the next.
async fn produce(producer: &Producer, topic: &str, messages: usize, header_count: usize) -> anyhow::Result<()> {
    let (begun, cpu) = (Instant::now(), cpu_time());
    for page in 0..messages.div_ceil(PAGE) {
        let size = PAGE.min(messages - page * PAGE);
        let page = (0..size).map(|number| {
            let id = (page * PAGE + number) as u128;
            // Ids look like chance, as real ones do, so that they compress no better.
            let id = format!("{:032x}", id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            let value = format!(
                r#"{{"event_id":"{id}","interest_id":"{id}","interest_version":1,"user_id":"{id}","user_email":"{}@example.org","airport_code":"LFPG","metric":"flights","flight_count":458,"high_value":400,"low_value":100,"reading":{{"id":"5f3c2a9e","seq":71,"window_begin":"2020-03-21T00:00:00Z","window_end":"2020-03-22T00:00:00Z","observed_at":"2020-03-22T12:45:00Z","source":"opensky"}}}}"#,
                &id[..12]
            );
            let message = OutgoingRecord::to(topic).with_key(id.into_bytes()).with_value(value.into_bytes());
            (0..header_count).fold(message, |message, _| message.with_header(headers::TYPE, headers::READING_V1))
        });
        producer.send_all(page).await?;
    }
    print_rate("produce", messages, begun.elapsed(), cpu_time().saturating_sub(cpu));
    Ok(())
}

async fn consume(config: &KafkaConfig, topic: &str, producer: &Producer, messages: usize) -> anyhow::Result<()> {
    let runtime = ServiceRuntime::new("throughput", CancellationToken::new(), Clock::system());
    let handled = Arc::new(AtomicUsize::new(0));
    let subscription = Subscription::new(topic, format!("{topic}-readers"));
    Consumer::new(config, subscription, producer, &runtime)?.spawn(Counting(handled.clone()), &runtime);
    while handled.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (begun, cpu) = (Instant::now(), cpu_time());
    while handled.load(Ordering::Relaxed) < messages {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    print_rate("consume", messages, begun.elapsed(), cpu_time().saturating_sub(cpu));
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    memory
        .lines()
        .filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"))
        .for_each(|line| println!("{line}"));
    runtime.tasks.stopping().cancel();
    runtime.tasks.join().await
}

#[expect(clippy::cast_precision_loss, reason = "figures for a person to read")]
fn print_rate(what: &str, messages: usize, took: Duration, cpu: Duration) {
    let (count, seconds) = (messages as f64, took.as_secs_f64());
    println!("{what}: {:.0} messages/s, {:.2} us of CPU a message", count / seconds, cpu.as_secs_f64() * 1e6 / count);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"))
        .for_each(|line| println!("  {line}"));
}

/// The processor time this process has used, where the system tells (in ticks of 10 ms).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
