//! `flightbell dlq`: a person looks at what could not be processed, and decides.

use std::borrow::Cow;

use anyhow::{Context, bail};
use contracts::topics::Namespace;
use shell::config::{Reader, Vars};
use stream::{
    KafkaConfig,
    dlq::{Dlq, Letter, LetterId, Letters},
};
use url::Url;

use crate::{
    cli::{self, DlqAction},
    folder,
    running::Running,
};

/// How much of a value `list` shows, in characters.
const GLIMPSE: usize = 60;

/// Does what was asked, and prints the answer.
///
/// # Errors
/// When Kafka or the worker cannot be reached, or an id is none.
pub async fn run(args: cli::Dlq, vars: &dyn Vars) -> anyhow::Result<()> {
    let running = folder::data_dir(args.data_dir, vars).ok().and_then(|folder| Running::find(&folder));
    match args.action {
        DlqAction::Accept { admin } => accept(admin, running.as_ref()).await,
        action => {
            let kafka = kafka(vars, running.as_ref())?;
            look_or_decide(&kafka, action).await
        }
    }
}

async fn look_or_decide(kafka: &KafkaConfig, action: DlqAction) -> anyhow::Result<()> {
    if let DlqAction::List { topic: Some(wanted), .. } = &action {
        is_ours(wanted)?;
    }
    let mut done = 0;
    for topic in Namespace::default().working_topics() {
        let letters = Dlq::of(kafka, &topic)?;
        match &action {
            DlqAction::List { topic: Some(wanted), .. } if *wanted != topic => {}
            DlqAction::List { limit, .. } => list(&topic, &letters, *limit).await?,
            DlqAction::Show { id } => {
                let Some(id) = of_topic(&topic, id)? else { continue };
                let letter = letters.show(id).await?.with_context(|| format!("{topic}/{id} is no dead letter"))?;
                show(&topic, &letter);
            }
            DlqAction::Replay { ids } => done += letters.replay(chosen(&topic, ids)?).await?,
            DlqAction::Drop { ids } => done += letters.drop(chosen(&topic, ids)?).await?,
            DlqAction::Accept { .. } => {}
        }
    }
    match action {
        DlqAction::Replay { .. } => say(&format!("{done} dead letters were put back on their topic")),
        DlqAction::Drop { .. } => say(&format!("{done} dead letters were dropped")),
        _ => {}
    }
    Ok(())
}

async fn list(topic: &str, letters: &Dlq, limit: usize) -> anyhow::Result<()> {
    let listing = letters.list(limit).await?;
    say(&format!("{topic}: {} dead letters that nobody has decided about", listing.unsettled));
    for letter in &listing.letters {
        let at = letter.record.sent_at().map_or_else(|| "?".to_owned(), |at| at.format("%F %T").to_string());
        let value = letter.record.value().map_or_else(|| "(no value)".to_owned(), glimpse);
        say(&format!("  {topic}/{}  {at}  {}\n      {value}", letter.id(), reason(letter)));
    }
    if listing.unsettled > listing.letters.len() {
        say(&format!("  ... and {} more: --limit shows more", listing.unsettled - listing.letters.len()));
    }
    Ok(())
}

fn show(topic: &str, letter: &Letter) {
    say(&format!("letter   {topic}/{}", letter.id()));
    say(&format!("reason   {}", reason(letter)));
    if let Some(origin) = &letter.origin {
        say(&format!("from     {} partition {} offset {}", origin.topic, origin.partition, origin.offset));
    }
    for (name, value) in letter.record.headers() {
        say(&format!("header   {name}: {}", String::from_utf8_lossy(value.unwrap_or_default())));
    }
    say(&format!("key      {}", text(letter.record.key())));
    say(&format!("value    {}", text(letter.record.value())));
}

fn text(bytes: Option<&[u8]>) -> Cow<'_, str> {
    bytes.map_or(Cow::Borrowed("(none)"), String::from_utf8_lossy)
}

fn reason(letter: &Letter) -> &str {
    letter.origin.as_ref().map_or("put there by somebody else", |origin| origin.reason.as_str())
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

/// The letters of `topic` among `ids`.
fn chosen(topic: &str, ids: &[String]) -> anyhow::Result<Letters> {
    if ids.iter().any(|id| id == "all") {
        return Ok(Letters::All);
    }
    let ids = ids.iter().map(|id| of_topic(topic, id)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Letters::These(ids.into_iter().flatten().collect()))
}

/// The place of a letter named `topic/partition:offset`, where it is one of `topic`.
fn of_topic(topic: &str, id: &str) -> anyhow::Result<Option<LetterId>> {
    let Some((of, place)) = id.split_once('/') else { bail!("{id:?} is no id: take one from `flightbell dlq list`") };
    is_ours(of).with_context(|| format!("{id:?} is no id"))?;
    let place: LetterId = place.parse().with_context(|| format!("read the id {id:?}"))?;
    Ok((of == topic).then_some(place))
}

/// Only what has dead letters can be asked for.
fn is_ours(topic: &str) -> anyhow::Result<()> {
    let topics = Namespace::default().working_topics();
    if topics.iter().any(|known| known == topic) {
        return Ok(());
    }
    bail!("{topic:?} is none of our topics: they are {}", topics.join(" and "));
}

/// Kafka as the environment names it, or else that of the running `up`.
fn kafka(vars: &dyn Vars, running: Option<&Running>) -> anyhow::Result<KafkaConfig> {
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

async fn accept(admin: Option<Url>, running: Option<&Running>) -> anyhow::Result<()> {
    let admin = match (admin, running) {
        (Some(admin), _) => admin,
        (None, Some(running)) => format!("http://{}", running.admin()).parse().context("read the admin address")?,
        (None, None) => bail!("no `flightbell up` runs: name the worker's admin address with --admin http://HOST:9090"),
    };
    let call = admin.join("/operator/accept-dead-letters").context("name the call")?;
    let client = shell::outside::client_for([&admin]).timeout(std::time::Duration::from_secs(5)).build()?;
    let response = client.post(call).send().await.with_context(|| format!("reach the worker at {admin}"))?;
    if !response.status().is_success() {
        bail!("the process at {admin} answered {}: it runs no worker", response.status());
    }
    let answer: serde_json::Value = response.json().await.context("read the worker's answer")?;
    say(answer["message"].as_str().unwrap_or_default());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_named_by_topic_partition_and_offset() {
        let id = of_topic("to-notifier", "to-notifier/3:17").expect("an id").expect("of this topic");
        assert_eq!(id.to_string(), "3:17");
        assert_eq!(of_topic("to-notifier", "to-alert-system/3:17").expect("an id"), None);
        for wrong in ["3:17", "to-notifier/3", "elsewhere/3:17", "to-notifier/-1:2"] {
            assert!(of_topic("to-notifier", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_glimpse_is_one_short_line() {
        assert_eq!(glimpse(b"{\"a\":\n1}"), "{\"a\": 1}");
        assert_eq!(glimpse(&[b'x'; 100]).chars().count(), GLIMPSE + 1);
    }
}
