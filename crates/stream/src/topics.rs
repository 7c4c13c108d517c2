//! The topics, created with what the contract says about them.

use std::{
    collections::BTreeSet,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use contracts::topics::{Namespace, dead_letters_of};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaResult, RDKafkaErrorCode},
};
use shell::{Shell, StoppedEarly, readiness::Need};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Plain, Words, reason},
    config::{KafkaConfig, LARGEST_RECORD},
    core::{backoff::Backoff, replication::least_in_sync, throttle::Throttle},
};

/// Seven days: a worker may be away over a long weekend. No longer, since they carry e-mail addresses.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// Dead letters wait for a person.
const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);
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

/// Creates both working topics and their dead letter topics where they are missing, waiting as long
/// as Kafka is away (`/readyz` says so). Topics that exist are left as they are.
///
/// # Errors
/// [`TopicsError`] when they cannot be created, [`StoppedEarly`] when the shell stops first.
pub async fn ensure(config: &KafkaConfig, names: &Namespace, shell: &Shell) -> anyhow::Result<()> {
    let part = shell.readiness.part("kafka topics", Need::Required, "not asked yet");
    create(config, names, shell.tasks.stopping(), |reason| part.down(reason)).await
}

/// The same without a shell; `waiting` hears why it still waits.
///
/// # Errors
/// As [`ensure`].
pub async fn create(
    config: &KafkaConfig,
    names: &Namespace,
    stopping: &CancellationToken,
    waiting: impl Fn(String),
) -> anyhow::Result<()> {
    let kafka = Arc::new(Kafka::open(config).context("create the Kafka client")?);
    let plans = plans(config, names);
    let mut lines = Throttle::new(LINE_INTERVAL);
    let mut attempt = 0;
    let begun = Instant::now();
    let created = loop {
        match create_missing(&kafka, &plans).await {
            Ok(()) => break Ok(()),
            Err(Obstacle::Lasting(TopicsError::TooFewBrokers { .. })) if begun.elapsed() < TOO_FEW_BROKERS_GRACE => {
                waiting("has fewer brokers than KAFKA_REPLICATION asks for".to_owned());
            }
            Err(Obstacle::Lasting(error)) => break Err(error.into()),
            Err(Obstacle::Passing(reason)) => {
                if lines.admit(Instant::now()).is_some() {
                    tracing::warn!("waiting for Kafka at {}: {reason}", config.bootstrap);
                }
                waiting(format!("cannot be reached: {reason}"));
            }
        }
        let wait = BACKOFF.wait(attempt, rand::random());
        attempt = attempt.saturating_add(1);
        tokio::select! {
            () = stopping.cancelled() => break Err(StoppedEarly.into()),
            () = tokio::time::sleep(wait) => {}
        }
    };
    close(kafka);
    created
}

/// How many of our topics there are, the dead letter topics among them.
///
/// # Errors
/// When Kafka does not answer.
pub async fn present(config: &KafkaConfig, names: &Namespace) -> anyhow::Result<usize> {
    let kafka = Arc::new(Kafka::open(config).context("create the Kafka client")?);
    let asked = kafka.clone();
    let known = tokio::task::spawn_blocking(move || asked.existing()).await.context("ask Kafka for its topics")?;
    let present = match known {
        Ok(known) => Ok(plans(config, names).iter().filter(|plan| known.contains(&plan.topic)).count()),
        Err(Obstacle::Passing(reason)) => Err(anyhow::anyhow!(reason)),
        Err(Obstacle::Lasting(error)) => Err(error.into()),
    };
    close(kafka);
    present
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
        let admin = config.finish(config.client()).create_with_context(Plain(Words::of("admin")))?;
        let asker = config.asker().create_with_context(Plain(Words::of("admin")))?;
        Ok(Self { admin, asker })
    }

    /// The topics there are. Asked first, so that topics made by hand are enough where we may not
    /// create any. Blocks.
    fn existing(&self) -> Result<BTreeSet<String>, Obstacle> {
        let metadata = self.asker.fetch_metadata(None, ASK_LIMIT);
        let metadata = metadata.map_err(|error| Obstacle::Passing(reason(&self.asker, &error)))?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }
}

struct Plan {
    topic: String,
    partitions: i32,
    replication: u16,
    settings: Vec<(&'static str, String)>,
}

fn plans(config: &KafkaConfig, names: &Namespace) -> Vec<Plan> {
    let plan = |topic, retention: Duration, more: Option<(&'static str, String)>| {
        let mut settings =
            vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", retention.as_millis().to_string())];
        settings.extend(least_in_sync(config.replication).map(|least| ("min.insync.replicas", least.to_string())));
        settings.extend(more);
        Plan { topic, partitions: config.partitions.into(), replication: config.replication, settings }
    };
    let working = names.working_topics().into_iter().flat_map(|topic| {
        let dead_letters = dead_letters_of(&topic);
        // A dead letter is the largest record with a few headers more.
        let room = ("max.message.bytes", LARGEST_RECORD.to_string());
        [plan(topic, RETENTION, None), plan(dead_letters, DEAD_LETTER_RETENTION, Some(room))]
    });
    working.collect()
}

/// Those of the topics that Kafka does not name.
async fn missing<'a>(kafka: &Arc<Kafka>, plans: &'a [Plan]) -> Result<Vec<&'a Plan>, Obstacle> {
    let asked = kafka.clone();
    let known = tokio::task::spawn_blocking(move || asked.existing()).await;
    let known = known.unwrap_or_else(|error| Err(Obstacle::Passing(error.to_string())))?;
    Ok(plans.iter().filter(|plan| !known.contains(&plan.topic)).collect())
}

/// A broker learns a moment after the controller's answer what was created; whoever asks it before
/// hears that there is no such topic. One that may not name the topics to us is not waited for.
async fn wait_until_named(kafka: &Arc<Kafka>, plans: &[Plan]) -> Result<(), Obstacle> {
    let begun = Instant::now();
    while begun.elapsed() < NAMED_LIMIT && !missing(kafka, plans).await?.is_empty() {
        tokio::time::sleep(NAMED_INTERVAL).await;
    }
    Ok(())
}

async fn create_missing(kafka: &Arc<Kafka>, plans: &[Plan]) -> Result<(), Obstacle> {
    let missing = missing(kafka, plans).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let topics: Vec<_> = missing.iter().map(|plan| plan.new_topic()).collect();
    let options = AdminOptions::new().request_timeout(Some(CREATE_LIMIT)).operation_timeout(Some(CREATE_LIMIT));
    let answers = tokio::time::timeout(2 * CREATE_LIMIT, kafka.admin.create_topics(&topics, &options)).await;
    let answers = answers.map_err(|_| Obstacle::Passing("no answer".to_owned()))?;
    let answers = answers.map_err(|error| Obstacle::Passing(error.to_string()))?;
    for (plan, answer) in missing.into_iter().zip(answers) {
        match answer {
            Ok(topic) => tracing::info!("created topic {topic} with {} partitions", plan.partitions),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(obstacle(topic, code, plan.replication)),
        }
    }
    wait_until_named(kafka, plans).await
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

impl Plan {
    fn new_topic(&self) -> NewTopic<'_> {
        let replication = TopicReplication::Fixed(self.replication.into());
        let topic = NewTopic::new(&self.topic, self.partitions, replication);
        self.settings.iter().fold(topic, |topic, (setting, value)| topic.set(setting, value))
    }
}

impl fmt::Debug for Plan {
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
    fn each_working_topic_has_its_dead_letters() {
        let mut config = KafkaConfig::plain("a:9092");
        config.replication = 3;
        let plans: Vec<_> = plans(&config, &Namespace::default()).iter().map(|plan| format!("{plan:?}")).collect();
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
                lasting("to-alert-system.dlq", "1209600000", room),
                lasting("to-notifier", "604800000", ""),
                lasting("to-notifier.dlq", "1209600000", room),
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
