//! The topics, created as the table says by the service that owns them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use events::topics::{Namespace, TopicKind, TopicSpec};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaResult, RDKafkaErrorCode},
};
use runtime::{ServiceRuntime, StoppedEarly, backoff::Backoff, readiness::Criticality};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{ClientLog, Plain, reason},
    config::{KafkaConfig, LARGEST_RECORD},
    core::{log_throttle::LogThrottle, replication::least_in_sync},
};

/// How long the question which topics there are may take; a stop waits for it.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// How long the creation of topics may take.
const CREATE_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait until Kafka names what it created, and how long between two questions.
const NAMED_LIMIT: Duration = Duration::from_secs(5);
const NAMED_INTERVAL: Duration = Duration::from_millis(50);
/// A broker that comes back is fenced for a moment, and then Kafka counts one broker less. Only after
/// this does that count as lasting.
const TOO_FEW_BROKERS_GRACE: Duration = Duration::from_secs(5);
/// How long a reader waits for the owner to create a topic before it does so itself: where the messages
/// come from another system, there may be no owner.
const OWNER_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait between attempts at start.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));
/// Log a failed attempt at most this often, so that a long wait does not fill the log.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The topics cannot be as they should, however often we ask.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicsError {
    /// More replicas than brokers.
    #[error(
        "create topic {topic} with {replication} replicas: Kafka has fewer brokers; set KAFKA_REPLICATION to at most their number"
    )]
    TooFewBrokers {
        /// The topic.
        topic: String,
        /// The replicas that were asked for.
        replication: u16,
    },
    /// Kafka refuses for another reason that time does not mend.
    #[error("create topic {topic}: Kafka refuses ({code}); let us create it, or create it by hand")]
    Refused {
        /// The topic.
        topic: String,
        /// Kafka's word.
        code: RDKafkaErrorCode,
    },
}

/// Creates the topics that `service` owns where they are missing, and waits for those that it reads, as
/// long as Kafka is away (`/readyz` says so). Topics that exist are left as they are, but for a retry
/// topic with fewer partitions than its topic, which gets more.
///
/// # Errors
/// [`TopicsError`] when they cannot be created, [`StoppedEarly`] when the service stops first.
pub async fn ensure(
    config: &KafkaConfig,
    names: &Namespace,
    service: &str,
    criticality: Criticality,
    runtime: &ServiceRuntime,
) -> anyhow::Result<()> {
    let part = runtime.readiness.part("kafka topics", criticality, "not asked yet");
    let (owned, rest): (Vec<_>, Vec<_>) = names.topics().into_iter().partition(|topic| topic.owner == service);
    let read = rest.into_iter().filter(|topic| topic.readers.contains(&service)).collect();
    let creation = TopicCreation { config, stopping: runtime.tasks.stopping(), waiting: &|reason| part.down(reason) };
    creation.run(owned, read).await
}

/// The same for all topics, without a runtime; `waiting` hears why it still waits.
///
/// # Errors
/// As [`ensure`].
pub async fn create(
    config: &KafkaConfig,
    names: &Namespace,
    stopping: &CancellationToken,
    waiting: impl Fn(String) + Sync,
) -> anyhow::Result<()> {
    TopicCreation { config, stopping, waiting: &waiting }.run(names.topics(), Vec::new()).await
}

/// Topics on their way.
struct TopicCreation<'a> {
    config: &'a KafkaConfig,
    stopping: &'a CancellationToken,
    waiting: &'a (dyn Fn(String) + Sync),
}

impl TopicCreation<'_> {
    async fn run(&self, owned: Vec<TopicSpec>, read: Vec<TopicSpec>) -> anyhow::Result<()> {
        let kafka = Arc::new(Kafka::open(self.config).context("create the Kafka client")?);
        let made = self.create_all(&kafka, owned, read).await;
        close(kafka);
        made
    }

    async fn create_all(&self, kafka: &Arc<Kafka>, owned: Vec<TopicSpec>, read: Vec<TopicSpec>) -> anyhow::Result<()> {
        // A topic of retries has as many partitions as its topic, which may be another service's.
        let (retries, owned): (Vec<_>, Vec<_>) = owned.into_iter().partition(|topic| topic.kind == TopicKind::Retries);
        self.create(kafka, &plans(self.config, &owned)).await?;
        let read = plans(self.config, &read);
        self.wait_for_owners(kafka, &read).await?;
        self.create(kafka, &read).await?;
        self.create(kafka, &plans(self.config, &retries)).await
    }

    /// Creates what is missing, as long as it takes.
    async fn create(&self, kafka: &Arc<Kafka>, plans: &[TopicPlan]) -> anyhow::Result<()> {
        let mut lines = LogThrottle::new(LINE_INTERVAL);
        let mut attempt = 0;
        let begun = Instant::now();
        loop {
            match create_missing(kafka, plans).await {
                Ok(()) => return Ok(()),
                Err(Obstacle::Lasting(TopicsError::TooFewBrokers { .. }))
                    if begun.elapsed() < TOO_FEW_BROKERS_GRACE =>
                {
                    (self.waiting)("has fewer brokers than KAFKA_REPLICATION asks for".to_owned());
                }
                Err(Obstacle::Lasting(error)) => return Err(error.into()),
                Err(Obstacle::Passing(reason)) => {
                    if lines.admit(Instant::now()).is_some() {
                        tracing::warn!("waiting for Kafka at {}: {reason}", self.config.bootstrap);
                    }
                    (self.waiting)(format!("cannot be reached: {reason}"));
                }
            }
            self.pause(&mut attempt).await?;
        }
    }

    /// Waits until the owners have created their topics, for [`OWNER_LIMIT`] at most.
    async fn wait_for_owners(&self, kafka: &Arc<Kafka>, plans: &[TopicPlan]) -> anyhow::Result<()> {
        let (begun, mut attempt) = (Instant::now(), 0);
        while begun.elapsed() < OWNER_LIMIT {
            match missing(kafka, plans).await {
                Ok(missing) => {
                    let Some(plan) = missing.first() else { return Ok(()) };
                    (self.waiting)(format!("waiting for {} to create topic {}", plan.owner, plan.topic));
                }
                Err(Obstacle::Passing(reason)) => (self.waiting)(format!("cannot be reached: {reason}")),
                Err(Obstacle::Lasting(error)) => return Err(error.into()),
            }
            self.pause(&mut attempt).await?;
        }
        tracing::info!("no owner created the topics that this service reads: creating them");
        Ok(())
    }

    async fn pause(&self, attempt: &mut u32) -> anyhow::Result<()> {
        let wait = BACKOFF.wait(*attempt, rand::random());
        *attempt = attempt.saturating_add(1);
        tokio::select! {
            () = self.stopping.cancelled() => Err(StoppedEarly.into()),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

/// Of the topics of a table, those that are missing.
///
/// # Errors
/// When Kafka does not answer.
pub async fn absent(config: &KafkaConfig, names: &Namespace) -> anyhow::Result<Vec<String>> {
    let kafka = Arc::new(Kafka::open(config).context("create the Kafka client")?);
    let plans = plans(config, &names.topics());
    let absent = match missing(&kafka, &plans).await {
        Ok(missing) => Ok(missing.into_iter().map(|plan| plan.topic.clone()).collect()),
        Err(Obstacle::Passing(reason)) => Err(anyhow::anyhow!(reason)),
        Err(Obstacle::Lasting(error)) => Err(error.into()),
    };
    close(kafka);
    absent
}

enum Obstacle {
    Passing(String),
    Lasting(TopicsError),
}

/// One client to create topics with, and one to ask which there are: only the latter hears why a
/// broker cannot be reached.
struct Kafka {
    admin: AdminClient<Plain>,
    asker: BaseConsumer<Plain>,
}

impl Kafka {
    fn open(config: &KafkaConfig) -> KafkaResult<Self> {
        let admin = config.finish(config.client()).create_with_context(Plain(ClientLog::of("admin")))?;
        let asker = config.asker().create_with_context(Plain(ClientLog::of("admin")))?;
        Ok(Self { admin, asker })
    }

    /// The topics there are, and their numbers of partitions. Asked first, so that topics made by hand are
    /// enough where we may not create any. Blocks.
    fn existing(&self) -> Result<Existing, Obstacle> {
        let metadata = self.asker.fetch_metadata(None, ASK_LIMIT);
        let metadata = metadata.map_err(|error| Obstacle::Passing(reason(&self.asker, &error)))?;
        Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
    }
}

/// Topics and their numbers of partitions.
type Existing = BTreeMap<String, usize>;

struct TopicPlan {
    topic: String,
    owner: &'static str,
    /// The topic that this one has as many partitions as.
    like: Option<String>,
    partitions: i32,
    replication: u16,
    settings: Vec<(&'static str, String)>,
}

fn plans(config: &KafkaConfig, topics: &[TopicSpec]) -> Vec<TopicPlan> {
    let plan = |topic: &TopicSpec| {
        let retention = topic.retention.as_millis().to_string();
        let mut settings = vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", retention)];
        settings.extend(least_in_sync(config.replication).map(|least| ("min.insync.replicas", least.to_string())));
        if topic.kind != TopicKind::Events {
            // A dead letter is the largest record with a few headers more, and so is what it is retried as.
            settings.push(("max.message.bytes", LARGEST_RECORD.to_string()));
        }
        let like = topic.of.clone().filter(|_| topic.kind == TopicKind::Retries);
        let (name, partitions, replication) = (topic.name.clone(), config.partitions.into(), config.replication);
        TopicPlan { topic: name, owner: topic.owner, like, partitions, replication, settings }
    };
    topics.iter().map(plan).collect()
}

async fn existing(kafka: &Arc<Kafka>) -> Result<Existing, Obstacle> {
    let asked = kafka.clone();
    let known = tokio::task::spawn_blocking(move || asked.existing()).await;
    known.unwrap_or_else(|error| Err(Obstacle::Passing(error.to_string())))
}

/// Those of the topics that Kafka does not name.
async fn missing<'a>(kafka: &Arc<Kafka>, plans: &'a [TopicPlan]) -> Result<Vec<&'a TopicPlan>, Obstacle> {
    if plans.is_empty() {
        return Ok(Vec::new());
    }
    let known = existing(kafka).await?;
    Ok(plans.iter().filter(|plan| !known.contains_key(&plan.topic)).collect())
}

/// A broker learns a moment after the controller's answer what was created; asked before, it says
/// that there is no such topic. One that may not name the topics to us is not waited for.
async fn wait_until_named(kafka: &Arc<Kafka>, plans: &[TopicPlan]) -> Result<(), Obstacle> {
    let begun = Instant::now();
    while begun.elapsed() < NAMED_LIMIT && !missing(kafka, plans).await?.is_empty() {
        tokio::time::sleep(NAMED_INTERVAL).await;
    }
    Ok(())
}

async fn create_missing(kafka: &Arc<Kafka>, plans: &[TopicPlan]) -> Result<(), Obstacle> {
    if plans.is_empty() {
        return Ok(());
    }
    let known = existing(kafka).await?;
    let partitions = |plan: &TopicPlan| {
        let like = plan.like.as_ref().and_then(|like| known.get(like)).and_then(|count| i32::try_from(*count).ok());
        like.unwrap_or(plan.partitions)
    };
    let missing: Vec<_> = plans.iter().filter(|plan| !known.contains_key(&plan.topic)).collect();
    if !missing.is_empty() {
        let topics: Vec<_> = missing.iter().map(|plan| plan.new_topic(partitions(plan))).collect();
        let answers = tokio::time::timeout(2 * CREATE_LIMIT, kafka.admin.create_topics(&topics, &options())).await;
        let answers = answers.map_err(|_| Obstacle::Passing("no answer".to_owned()))?;
        let answers = answers.map_err(|error| Obstacle::Passing(error.to_string()))?;
        for (plan, answer) in missing.into_iter().zip(answers) {
            match answer {
                Ok(topic) => tracing::info!("created topic {topic} with {} partitions", partitions(plan)),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(obstacle(topic, code, plan.replication)),
            }
        }
    }
    for plan in plans.iter().filter(|plan| plan.like.is_some()) {
        let wanted = usize::try_from(partitions(plan)).unwrap_or_default();
        if known.get(&plan.topic).is_some_and(|count| *count < wanted) {
            add_partitions(kafka, &plan.topic, wanted).await?;
        }
    }
    wait_until_named(kafka, plans).await
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CREATE_LIMIT)).operation_timeout(Some(CREATE_LIMIT))
}

/// Has a topic of retries keep up with its topic.
async fn add_partitions(kafka: &Kafka, topic: &str, count: usize) -> Result<(), Obstacle> {
    let wanted = [NewPartitions::new(topic, count)];
    let asked = kafka.admin.create_partitions(&wanted, &options());
    let answers = tokio::time::timeout(2 * CREATE_LIMIT, asked).await;
    let answers = answers.map_err(|_| Obstacle::Passing("no answer".to_owned()))?;
    let answers = answers.map_err(|error| Obstacle::Passing(error.to_string()))?;
    for answer in answers {
        match answer {
            Ok(topic) => tracing::info!("topic {topic} has {count} partitions now, as many as its topic"),
            // Without them only dead letters of the new partitions cannot be replayed.
            Err((topic, code)) => tracing::warn!("topic {topic} needs {count} partitions: {code}"),
        }
    }
    Ok(())
}

/// What Kafka's answer to the creation of a topic means.
fn obstacle(topic: String, code: RDKafkaErrorCode, replication: u16) -> Obstacle {
    use RDKafkaErrorCode as Code;
    match code {
        Code::InvalidReplicationFactor => Obstacle::Lasting(TopicsError::TooFewBrokers { topic, replication }),
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::PolicyViolation
        | Code::InvalidConfig
        | Code::InvalidPartitions
        | Code::InvalidTopic
        | Code::InvalidRequest => Obstacle::Lasting(TopicsError::Refused { topic, code }),
        _ => Obstacle::Passing(format!("create topic {topic}: {code}")),
    }
}

impl TopicPlan {
    fn new_topic(&self, partitions: i32) -> NewTopic<'_> {
        let replication = TopicReplication::Fixed(self.replication.into());
        let topic = NewTopic::new(&self.topic, partitions, replication);
        self.settings.iter().fold(topic, |topic, (setting, value)| topic.set(setting, value))
    }
}

impl fmt::Debug for TopicPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} x {} {:?}", self.topic, self.partitions, self.replication, self.settings)
    }
}

/// Closing waits for the client's threads, so it happens on a thread of its own.
fn close(kafka: Arc<Kafka>) {
    let closing = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(kafka));
    if let Err(error) = closing {
        tracing::warn!("close the Kafka client: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_is_kept_as_the_contract_says() {
        let mut config = KafkaConfig::plain("a:9092");
        config.replication = 3;
        let plans: Vec<_> =
            plans(&config, &Namespace::default().topics()).iter().map(|plan| format!("{plan:?}")).collect();
        let lasting = |name: &str, retention: &str, more: &str| {
            format!(
                "{name}: 12 x 3 [(\"cleanup.policy\", \"delete\"), (\"retention.ms\", \"{retention}\"), \
                 (\"min.insync.replicas\", \"2\"){more}]"
            )
        };
        let room = ", (\"max.message.bytes\", \"2097152\")";
        assert_eq!(
            plans,
            [
                lasting("to-alert-system", "604800000", ""),
                lasting("to-alert-system.alert-system.dlq", "1209600000", room),
                lasting("to-alert-system.alert-system.retry", "604800000", room),
                lasting("to-notifier", "604800000", ""),
                lasting("to-notifier.notifier.dlq", "1209600000", room),
                lasting("to-notifier.notifier.retry", "604800000", room),
            ]
        );
    }

    #[test]
    fn what_time_does_not_mend_is_told_at_once() {
        use RDKafkaErrorCode as Code;
        let judged = |code| obstacle("t".to_owned(), code, 3);
        let Obstacle::Lasting(error) = judged(Code::InvalidReplicationFactor) else { panic!("it lasts") };
        assert!(error.to_string().contains("set KAFKA_REPLICATION"), "{error}");
        assert!(matches!(judged(Code::TopicAuthorizationFailed), Obstacle::Lasting(_)));
        assert!(matches!(judged(Code::NotController), Obstacle::Passing(_)));
        assert!(matches!(judged(Code::RequestTimedOut), Obstacle::Passing(_)));
    }
}
