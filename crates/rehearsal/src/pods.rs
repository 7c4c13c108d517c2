//! What pods say of themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cluster::{Cluster, DEPLOYMENTS},
    wait::wait_until,
};

/// Where each pod answers probes and Prometheus.
const ADMIN_PORT: u16 = 9090;

/// How many partitions a topic has (`KAFKA_PARTITIONS`).
const PARTITIONS: usize = 12;

/// How long a pod may take to answer: a check of a dependency alone may take two seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A pod of a Deployment.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The name of its Deployment.
    pub deployment: String,
    /// Its Kubernetes id.
    pub uid: String,
    /// The image that it runs.
    pub image: String,
    /// Whether it takes requests.
    pub is_ready: bool,
    /// How often its container was started again.
    pub restarts: u32,
    /// Why its container ended before, if it did.
    pub last_end: Option<String>,
    address: Option<IpAddr>,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Value>,
}

impl Pod {
    fn read(item: &Value) -> Option<Self> {
        let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let deployment = text("/metadata/labels/app.kubernetes.io~1name")?;
        // A pod that is on its way out counts no more.
        if !DEPLOYMENTS.contains(&deployment.as_str()) || item.pointer("/metadata/deletionTimestamp").is_some() {
            return None;
        }
        let status = |pointer: &str| item.pointer(&format!("/status/containerStatuses/0{pointer}"));
        Some(Self {
            name: text("/metadata/name")?,
            deployment,
            uid: text("/metadata/uid")?,
            image: text("/spec/containers/0/image")?,
            is_ready: status("/ready").and_then(Value::as_bool).unwrap_or_default(),
            restarts: status("/restartCount")
                .and_then(Value::as_u64)
                .and_then(|count| count.try_into().ok())
                .unwrap_or(0),
            last_end: status("/lastState/terminated/reason").and_then(Value::as_str).map(str::to_owned),
            address: text("/status/podIP").and_then(|address| address.parse().ok()),
        })
    }

    async fn admin(&self, cluster: &Cluster, path: &str) -> anyhow::Result<String> {
        let address = self.address.context("the pod has no address")?;
        let url = format!("http://{address}:{ADMIN_PORT}{path}");
        Ok(cluster.http.get(url).timeout(ANSWER_LIMIT).send().await?.text().await?)
    }

    /// What it says about its readiness.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn readyz(&self, cluster: &Cluster) -> anyhow::Result<String> {
        self.admin(cluster, "/readyz").await
    }
}

/// The pods of all Deployments, but those that are ending.
///
/// # Errors
/// When kubectl fails.
pub async fn pods(cluster: &Cluster) -> anyhow::Result<Vec<Pod>> {
    let text = cluster.kubectl(&["get", "pods", "--output=json"]).await?;
    let list: List = serde_json::from_str(&text).context("understand kubectl")?;
    Ok(list.items.iter().filter_map(Pod::read).collect())
}

/// How often each pod's container was started again.
///
/// # Errors
/// When kubectl fails.
pub async fn restarts(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, u32>> {
    Ok(pods(cluster).await?.into_iter().map(|pod| (pod.name, pod.restarts)).collect())
}

/// How many records the consumers of a service still have to read, together; none while some partition is nobody's.
///
/// # Errors
/// When a pod does not answer, or not in numbers.
pub async fn lag(cluster: &Cluster, deployment: &str) -> anyhow::Result<Option<u64>> {
    let (mut lag, mut partitions) = (0.0, BTreeSet::new());
    for pod in pods(cluster).await?.iter().filter(|pod| pod.deployment == deployment) {
        for line in pod.admin(cluster, "/metrics").await?.lines().filter(|line| line.starts_with("consumer_lag{")) {
            let (series, value) = line.rsplit_once(' ').context("a metric without a value")?;
            partitions.insert(series.to_owned());
            lag += value.parse::<f64>().with_context(|| format!("understand {line}"))?;
        }
    }
    // A gauge of whole records, which is not negative.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "said above")]
    let records = lag as u64;
    Ok((partitions.len() >= PARTITIONS).then_some(records))
}

/// Waits until every Deployment has all its pods, ready.
///
/// # Errors
/// When they are not within `limit`.
pub async fn all_ready(cluster: &Cluster, limit: Duration) -> anyhow::Result<Duration> {
    wait_until("all pods to be ready", limit, async || {
        let template = "--output=jsonpath={range .items[*]}{.metadata.name} {.spec.replicas}{\"\\n\"}{end}";
        let wanted = cluster.kubectl(&["get", "deployments", template]).await?;
        let pods = pods(cluster).await?;
        let mut all = 0;
        for line in wanted.lines() {
            let (name, replicas) = line.split_once(' ').context("understand kubectl")?;
            let ready = pods.iter().filter(|pod| pod.deployment == name && pod.is_ready).count();
            all += usize::from(replicas.parse() == Ok(ready));
        }
        Ok(all == DEPLOYMENTS.len() && pods.iter().all(|pod| pod.is_ready))
    })
    .await
}
