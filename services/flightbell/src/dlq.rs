//! `flightbell dlq`: an operator looks at what could not be processed, and decides.

use std::{borrow::Cow, fmt};

use anyhow::{Context, bail};
use events::topics::{GroupTopic, Namespace};
use kafka::{
    KafkaConfig,
    dlq::{DeadLetter, DeadLetterId, DeadLetters, Dlq},
};
use runtime::config::{Reader, Vars};

use crate::{
    cli::{self, DlqAction, DlqFilter},
    paths,
    running_instance::RunningInstance,
};

/// How much of a value `list` shows, in characters.
const GLIMPSE: usize = 60;

/// Does what was asked, and prints the answer.
///
/// # Errors
/// When Kafka cannot be reached, or an id, a topic or a group is none of ours.
pub async fn run(args: cli::Dlq, topics: &Namespace, vars: &dyn Vars) -> anyhow::Result<()> {
    let running = paths::data_dir(args.data_dir, vars).ok().and_then(|folder| RunningInstance::find(&folder));
    let (kafka, queues) = (kafka(vars, running.as_ref())?, Queues::of(topics));
    match args.action {
        DlqAction::List { filter, limit } => list_all(&kafka, &queues.filtered(&filter)?, limit).await,
        DlqAction::Show { id } => show_one(&kafka, &queues, &id).await,
        DlqAction::Replay { ids, filter } => {
            let mut done = 0;
            for (queue, letters) in queues.chosen(&ids, &filter)? {
                done += queue.open(&kafka)?.replay(letters).await?;
            }
            say(&format!("{done} dead letters were put back for their group to retry"));
            Ok(())
        }
        DlqAction::Drop { ids, filter } => {
            let mut done = 0;
            for (queue, letters) in queues.chosen(&ids, &filter)? {
                done += queue.open(&kafka)?.drop(letters).await?;
            }
            say(&format!("{done} dead letters were dropped"));
            Ok(())
        }
        DlqAction::Reset { filter } => reset(&kafka, queues.filtered(&filter)?).await,
    }
}

/// The dead letters of a topic and a group, or those that older versions wrote without a group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Queue {
    of: GroupTopic,
    is_legacy: bool,
}

/// Every one there can be, those of older versions last.
struct Queues(Vec<Queue>);

impl Queues {
    fn of(topics: &Namespace) -> Self {
        let all = topics.group_topics();
        let legacy = all.clone().into_iter().filter(|of| of.takes_legacy).map(|of| Queue { of, is_legacy: true });
        Self(all.into_iter().map(|of| Queue { of, is_legacy: false }).chain(legacy).collect())
    }

    /// Those that the filter leaves.
    ///
    /// # Errors
    /// When it leaves none, since its topic or group is none of ours.
    fn filtered(&self, filter: &DlqFilter) -> anyhow::Result<Vec<Queue>> {
        let is_meant = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let of_topic = self.0.iter().filter(|queue| is_meant(&filter.topic, &queue.of.topic));
        let left: Vec<_> = of_topic.filter(|queue| is_meant(&filter.group, &queue.of.group)).cloned().collect();
        if left.is_empty() {
            let known: Vec<_> = self.0.iter().filter(|queue| !queue.is_legacy).map(ToString::to_string).collect();
            let asked: Vec<_> = filter.topic.iter().chain(&filter.group).map(String::as_str).collect();
            bail!("nothing here reads {}: there are {}", asked.join(" as "), known.join(" and "));
        }
        Ok(left)
    }

    /// The dead letters that are meant, by where they lie.
    fn chosen(&self, ids: &[String], filter: &DlqFilter) -> anyhow::Result<Vec<(Queue, DeadLetters)>> {
        let queues = self.filtered(filter)?;
        if ids.iter().any(|id| id == "all") {
            return Ok(queues.into_iter().map(|queue| (queue, DeadLetters::All)).collect());
        }
        let ids = ids.iter().map(|id| self.named(id)).collect::<anyhow::Result<Vec<_>>>()?;
        let of_queue = |queue: Queue| {
            let places: Vec<_> = ids.iter().filter(|(of, _)| *of == queue).map(|(_, place)| *place).collect();
            (!places.is_empty()).then_some((queue, DeadLetters::These(places)))
        };
        Ok(queues.into_iter().filter_map(of_queue).collect())
    }

    /// The dead letter named `topic/group/partition:offset`, or `topic/partition:offset` when it has no
    /// group.
    fn named(&self, id: &str) -> anyhow::Result<(Queue, DeadLetterId)> {
        let Some((of, place)) = id.rsplit_once('/') else {
            bail!("{id:?} is no id: take one from `flightbell dlq list`")
        };
        let queue = self.0.iter().find(|queue| queue.to_string() == of);
        let queue = queue.with_context(|| format!("{id:?} is no id: {of:?} is no topic and group of ours"))?;
        let place = place.parse().with_context(|| format!("read the id {id:?}"))?;
        Ok((queue.clone(), place))
    }
}

impl Queue {
    fn open(&self, kafka: &KafkaConfig) -> anyhow::Result<Dlq> {
        let GroupTopic { topic, group, .. } = &self.of;
        if self.is_legacy { Dlq::legacy(kafka, topic, group) } else { Dlq::of(kafka, topic, group) }
    }
}

impl fmt::Display for Queue {
    /// As it stands in the ids of its dead letters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GroupTopic { topic, group, .. } = &self.of;
        if self.is_legacy { f.write_str(topic) } else { write!(f, "{topic}/{group}") }
    }
}

async fn list_all(kafka: &KafkaConfig, queues: &[Queue], limit: usize) -> anyhow::Result<()> {
    for queue in queues {
        let listing = queue.open(kafka)?.list(limit).await?;
        if queue.is_legacy && listing.unsettled == 0 {
            continue;
        }
        let of = if queue.is_legacy { " of an older version" } else { "" };
        say(&format!("{queue}: {} dead letters{of} to decide about", listing.unsettled));
        for letter in &listing.letters {
            let at = letter.record.sent_at().map_or_else(|| "?".to_owned(), |at| at.format("%F %T").to_string());
            let value = letter.record.value().map_or_else(|| "(no value)".to_owned(), glimpse);
            say(&format!("  {queue}/{}  {at}  {}\n      {value}", letter.id(), reason(letter)));
        }
        if listing.unsettled > listing.letters.len() {
            say(&format!("  ... and {} more: --limit shows more", listing.unsettled - listing.letters.len()));
        }
    }
    Ok(())
}

async fn show_one(kafka: &KafkaConfig, queues: &Queues, id: &str) -> anyhow::Result<()> {
    let (queue, place) = queues.named(id)?;
    let letter = queue.open(kafka)?.show(place).await?.with_context(|| format!("{id} is no dead letter"))?;
    say(&format!("letter   {queue}/{place}"));
    say(&format!("reason   {}", reason(&letter)));
    if let Some(origin) = &letter.origin {
        say(&format!("from     {} partition {} offset {}", origin.topic, origin.partition, origin.offset));
    }
    say(&format!("group    {}", queue.of.group));
    for (name, value) in letter.record.headers() {
        say(&format!("header   {name}: {}", String::from_utf8_lossy(value.unwrap_or_default())));
    }
    say(&format!("key      {}", text(letter.record.key())));
    say(&format!("value    {}", text(letter.record.value())));
    Ok(())
}

async fn reset(kafka: &KafkaConfig, queues: Vec<Queue>) -> anyhow::Result<()> {
    for queue in queues.into_iter().filter(|queue| !queue.is_legacy) {
        queue.open(kafka)?.reset().await?;
        say(&format!("{queue}: every replica of {} counts rejects anew", queue.of.group));
    }
    Ok(())
}

fn text(bytes: Option<&[u8]>) -> Cow<'_, str> {
    bytes.map_or(Cow::Borrowed("(none)"), String::from_utf8_lossy)
}

fn reason(letter: &DeadLetter) -> &str {
    letter.origin.as_ref().map_or("put there by another program", |origin| origin.reason.as_str())
}

/// The beginning of a value, on one line.
fn glimpse(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut glimpse: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(GLIMPSE).collect();
    if text.chars().count() > GLIMPSE {
        glimpse.push('…');
    }
    glimpse
}

/// Kafka as the environment names it, or else that of the running `up`.
fn kafka(vars: &dyn Vars, running: Option<&RunningInstance>) -> anyhow::Result<KafkaConfig> {
    let mut reader = Reader::new(vars);
    if reader.raw("KAFKA_BROKER_URL").is_none() {
        reader.finish(|| Some(()))?;
        let running = running.context(
            "no Kafka is named and no `flightbell up` runs: set KAFKA_BROKER_URL, or name its folder with --data-dir",
        )?;
        return Ok(KafkaConfig::plain(running.kafka()));
    }
    let config = KafkaConfig::read(&mut reader);
    Ok(reader.finish(|| config)?)
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_named_by_topic_group_partition_and_offset() {
        let queues = Queues::of(&Namespace::default());
        let (queue, place) = queues.named("to-notifier/notifier/3:17").expect("an id");
        assert_eq!((queue.to_string().as_str(), place.to_string().as_str()), ("to-notifier/notifier", "3:17"));
        let (queue, _) = queues.named("to-notifier/3:17").expect("an id of an older version");
        assert!(queue.is_legacy);
        for wrong in ["3:17", "to-notifier/3", "elsewhere/3:17", "to-notifier/-1:2", "to-notifier/alert-system/3:17"] {
            assert!(queues.named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_filter_leaves_the_dead_letters_of_a_topic_and_a_group_and_is_never_silently_empty() {
        let left = |topic: Option<&str>, group: Option<&str>| {
            let filter = DlqFilter { topic: topic.map(Into::into), group: group.map(Into::into) };
            let queues = Queues::of(&Namespace::default()).filtered(&filter).map_err(|error| error.to_string())?;
            Ok(queues.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(left(None, None).map(|all| all.len()), Ok(4));
        let notifier = vec!["to-notifier/notifier".to_owned(), "to-notifier".to_owned()];
        assert_eq!(left(Some("to-notifier"), None), Ok(notifier.clone()));
        assert_eq!(left(None, Some("notifier")), Ok(notifier));
        assert!(
            left(Some("to-notifier"), Some("alert-system"))
                .is_err_and(|said: String| said.contains("to-notifier/notifier"))
        );
    }

    #[test]
    fn each_group_of_a_topic_has_dead_letters_of_its_own_and_the_first_those_of_older_versions() {
        use events::topics::{Group, TO_NOTIFIER, Topic};
        let groups = &[Group { name: "one", service: "one" }, Group { name: "two", service: "two" }];
        let queues = Queues::of(&Namespace::of(vec![Topic { groups, ..TO_NOTIFIER }]));
        let all: Vec<_> = queues.0.iter().map(|queue| (queue.to_string(), queue.of.group.as_str())).collect();
        let named = |queue: &str, group| (queue.to_owned(), group);
        assert_eq!(
            all,
            [named("to-notifier/one", "one"), named("to-notifier/two", "two"), named("to-notifier", "one")]
        );
    }

    #[test]
    fn a_glimpse_is_one_short_line() {
        assert_eq!(glimpse(b"{\"a\":\n1}"), "{\"a\": 1}");
        assert_eq!(glimpse(&[b'x'; 100]).chars().count(), GLIMPSE + 1);
    }
}
