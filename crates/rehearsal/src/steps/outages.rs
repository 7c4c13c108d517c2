//! Kafka and PostgreSQL stop and start.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    cluster::SERVICES,
    core::report::{Figure, Section},
    pods::{self, all_ready, restarts},
    stage::{PACE, Stage},
    wait::wait_until,
};

/// How long a server is away beyond the moment at which everybody has noticed.
const AWAY: Duration = Duration::from_secs(10);

/// How soon all must be ready again.
const RECOVERED: Duration = Duration::from_secs(15);

/// A server of the services.
pub struct Server {
    title: &'static str,
    /// As the lab and `/readyz` call it.
    name: &'static str,
    /// Who cannot work without it, and gets unready.
    needed_by: &'static [&'static str],
    /// Who works on without it, and names it all the same.
    missed_by: &'static [&'static str],
}

/// data-collector takes interests also without Kafka: what they cause waits in its outbox.
pub const KAFKA: Server =
    Server { title: "Kafka", name: "kafka", needed_by: &["alert-system", "notifier"], missed_by: &["data-collector"] };
/// Everybody keeps what they know in PostgreSQL.
pub const POSTGRES: Server = Server { title: "PostgreSQL", name: "postgres", needed_by: &SERVICES, missed_by: &[] };

/// Stops a server and starts it again.
pub async fn rehearse(stage: &mut Stage, server: &Server) -> anyhow::Result<Section> {
    let title = format!("{} stopped and started", server.title);
    let mut section = super::section(
        &title,
        "It is away until every service that needs it has said so, and 10 s more. Airports change, and nobody asks.",
    );
    let before = restarts(&stage.cluster).await?;
    stage.sky.set_pace(Some(PACE));
    stage.cluster.lab(&["servers", "down", server.name]).await?;
    let noticed = wait_until("pods to be unready", Duration::from_secs(60), async || {
        let pods = pods::pods(&stage.cluster).await?;
        Ok(pods.iter().all(|pod| pod.is_ready != server.needed_by.contains(&pod.deployment.as_str())))
    });
    let noticed = noticed.await?;
    section.figures.push(Figure::took("all of them unready after", noticed));
    let (named, said) = named(stage, server).await?;
    section.figures.push(Figure::check("unready, and name it in `/readyz`", named, server.needed_by.join(", ")));
    if !server.missed_by.is_empty() {
        section.figures.push(Figure::of("ready, and name it all the same", server.missed_by.join(", ")));
    }
    section.more = format!("`/readyz` says for example:\n\n```json\n{said}\n```");
    sleep(AWAY).await;
    stage.cluster.lab(&["servers", "up", server.name]).await?;
    let back = all_ready(&stage.cluster, Duration::from_secs(60)).await?;
    section.figures.push(Figure::within("all ready after its start", back, RECOVERED));
    stage.settle(&mut section).await?;
    let now = restarts(&stage.cluster).await?;
    section.figures.push(Figure::none("containers started again", again(&before, &now)));
    Ok(section)
}

/// Whether all of those that need or miss the server name it as down, and what one that needs it says.
async fn named(stage: &Stage, server: &Server) -> anyhow::Result<(bool, String)> {
    let (mut named, mut example) = (BTreeSet::new(), String::new());
    for pod in pods::pods(&stage.cluster).await? {
        let says = pod.readyz(&stage.cluster).await.with_context(|| format!("ask {} how it is", pod.name))?;
        let report: Value = serde_json::from_str(&says).with_context(|| format!("understand {says}"))?;
        if is_named_down(&report, server.name) {
            if !pod.is_ready {
                example = says;
            }
            named.insert(pod.deployment);
        }
    }
    let concerned = server.needed_by.iter().chain(server.missed_by);
    let concerned: BTreeSet<_> = concerned.map(|name| (*name).to_owned()).collect();
    Ok((named == concerned, example))
}

/// Whether a part with this in its name is down; `/readyz` lists parts by service.
fn is_named_down(report: &Value, name: &str) -> bool {
    match report {
        Value::Object(fields) => {
            let is_it = fields.get("name").and_then(Value::as_str).is_some_and(|found| found.contains(name));
            (is_it && fields.get("up") == Some(&Value::Bool(false)))
                || fields.values().any(|one| is_named_down(one, name))
        }
        Value::Array(items) => items.iter().any(|one| is_named_down(one, name)),
        _ => false,
    }
}

/// How many containers were started again; a pod that is new counts once.
fn again(before: &BTreeMap<String, u32>, now: &BTreeMap<String, u32>) -> i64 {
    now.iter().filter(|(pod, restarts)| before.get(*pod) != Some(restarts)).map(|_| 1).sum()
}
