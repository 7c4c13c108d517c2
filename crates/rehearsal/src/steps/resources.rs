//! What pods take, idle and loaded, beside what their manifests ask for.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Cluster, DEPLOYMENTS},
    core::{
        report::{Figure, Section},
        usage::{Usage, mebibytes, millicores, read_top},
    },
    stage::Stage,
};

/// metrics-server looks every 10 s, and a value is of the time between two looks.
const IDLE: Duration = Duration::from_secs(35);
const LOOK: Duration = Duration::from_secs(5);

/// The usage of each Deployment's largest pod.
pub type Usages = BTreeMap<String, Usage>;

/// What they take while airports are read and nobody asks.
pub async fn idle(stage: &Stage) -> anyhow::Result<Usages> {
    super::tell("What pods take while nobody asks");
    sleep(IDLE).await;
    top(&stage.cluster).await
}

async fn top(cluster: &Cluster) -> anyhow::Result<Usages> {
    Ok(read_top(&cluster.kubectl(&["top", "pods", "--no-headers"]).await?))
}

/// Notes the largest that `kubectl top` shows.
pub struct Sampler {
    looking: JoinSet<Usages>,
    ending: CancellationToken,
}

impl Sampler {
    /// Looks until [`Sampler::end`].
    pub fn begin(cluster: Cluster) -> Self {
        let ending = CancellationToken::new();
        let mut looking = JoinSet::new();
        looking.spawn(look(cluster, ending.clone()));
        Self { looking, ending }
    }

    /// The largest values that were seen.
    pub async fn end(self) -> Usages {
        self.ending.cancel();
        self.looking.join_all().await.into_iter().next().unwrap_or_default()
    }
}

async fn look(cluster: Cluster, ending: CancellationToken) -> Usages {
    let mut largest = Usages::new();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = ending.cancelled() => return largest,
        }
        // While pods come and go there may be nothing to show for a moment.
        add(&mut largest, top(&cluster).await.unwrap_or_default());
    }
}

/// Keeps the larger of each.
pub fn add(largest: &mut Usages, usages: Usages) {
    for (deployment, usage) in usages {
        let of = largest.entry(deployment).or_default();
        *of = of.max(usage);
    }
}

/// The table, and whether the manifests follow from it.
pub async fn section(stage: &Stage, idle: &Usages, loaded: &Usages) -> anyhow::Result<Section> {
    let mut section = super::section(
        "Memory and processor time of every pod",
        "`kubectl top pods`, of each Deployment the largest pod: idle (airports are read, nobody asks), and the \
         largest values of parts 2, 3, 5 and 6. The request for memory covers what is taken under load, the limit \
         twice that.",
    );
    let mut table = "| | idle | loaded | request | limit |\n|---|---:|---:|---:|---:|\n".to_owned();
    for deployment in DEPLOYMENTS {
        let (request, limit) = asked_for(stage, deployment).await?;
        let (idle, loaded) = (of(idle, deployment), of(loaded, deployment));
        // Writing to a string cannot fail.
        writeln!(
            table,
            "| {deployment} | {}m, {} MiB | {}m, {} MiB | {}m, {} MiB | {} MiB |",
            idle.millicores,
            idle.mebibytes,
            loaded.millicores,
            loaded.mebibytes,
            request.millicores,
            request.mebibytes,
            limit,
        )
        .unwrap_or_default();
        let holds = loaded.mebibytes > 0 && loaded.mebibytes <= request.mebibytes && loaded.mebibytes * 2 <= limit;
        let value = format!("{} MiB of {}, limit {limit}", loaded.mebibytes, request.mebibytes);
        section.figures.push(Figure::check(format!("memory of {deployment} fits"), holds, value));
    }
    section.more = table;
    Ok(section)
}

fn of(usages: &Usages, deployment: &str) -> Usage {
    usages.get(deployment).copied().unwrap_or_default()
}

/// What a Deployment's manifest asks for, and its limit of memory.
async fn asked_for(stage: &Stage, deployment: &str) -> anyhow::Result<(Usage, u64)> {
    let text = stage.cluster.kubectl(&["get", "deployment", deployment, "--output=json"]).await?;
    let object: Value = serde_json::from_str(&text)?;
    let quantity = |what: &str| {
        let pointer = format!("/spec/template/spec/containers/0/resources/{what}");
        object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let request = Usage {
        millicores: millicores(&quantity("requests/cpu")).unwrap_or_default(),
        mebibytes: mebibytes(&quantity("requests/memory")).unwrap_or_default(),
    };
    Ok((request, mebibytes(&quantity("limits/memory")).unwrap_or_default()))
}
