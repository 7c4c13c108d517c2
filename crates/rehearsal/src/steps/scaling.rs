//! More replicas and fewer, while airports change quickly.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    cluster::Cluster,
    core::report::{Figure, Section},
    pods::{all_ready, lag},
    stage::{Connections, RATE, Stage},
    wait::wait_until,
};

/// How often an airport changes: each of eight with every reading or the next but one.
const QUICK: Duration = Duration::from_millis(700);

/// How long each number of replicas works.
const BETWEEN: Duration = Duration::from_secs(15);

/// How long the lag must be gone: consumers bring it up to date every 5 s.
const LAG_IS_KNOWN: Duration = Duration::from_secs(6);

/// How soon everything has to be read again after a change.
const LAG_GONE: Duration = Duration::from_secs(30);

/// Scales alert-system from 1 to 4 replicas and back.
pub async fn rehearse(stage: &mut Stage) -> anyhow::Result<Section> {
    let mut section = super::section(
        "alert-system scaled from 1 to 4 and back",
        "`kubectl scale` while people ask and airports change nearly three times as fast.",
    );
    scale(stage, 1).await?;
    let busy = stage.begin(RATE, QUICK)?;
    for replicas in [4, 1] {
        sleep(BETWEEN).await;
        scale(stage, replicas).await?;
        let gone = lag_is_gone(&stage.cluster, "alert-system", Duration::from_secs(60)).await?;
        let what = format!("everything read after scaling to {replicas}");
        section.figures.push(Figure::within(what, gone, LAG_GONE));
    }
    sleep(BETWEEN).await;
    stage.end(busy, Connections::Stand, &mut section).await?;
    scale(stage, 2).await?;
    Ok(section)
}

/// Waits until there are exactly so many pods, ready: what was taken away is gone.
async fn scale(stage: &Stage, replicas: usize) -> anyhow::Result<()> {
    let count = format!("--replicas={replicas}");
    stage.cluster.kubectl(&["scale", "deployment/alert-system", &count]).await?;
    wait_until("the pods of alert-system", Duration::from_secs(90), async || {
        let selector = "--selector=app.kubernetes.io/name=alert-system";
        let names = stage.cluster.kubectl(&["get", "pods", selector, "--output=name"]).await?;
        Ok(names.lines().count() == replicas)
    })
    .await?;
    all_ready(&stage.cluster, Duration::from_secs(60)).await.map(drop)
}

/// Waits until a service has read all that lies on its topic, and goes on having done so; answers when that began.
async fn lag_is_gone(cluster: &Cluster, deployment: &str, limit: Duration) -> anyhow::Result<Duration> {
    let what = format!("{deployment} to have read everything");
    let (begun, mut gone) = (Instant::now(), None);
    wait_until(&what, limit, async || {
        let is_gone = lag(cluster, deployment).await? == Some(0);
        gone = is_gone.then(|| gone.unwrap_or_else(Instant::now));
        Ok(gone.is_some_and(|since| since.elapsed() > LAG_IS_KNOWN))
    })
    .await?;
    Ok(gone.map(|since| since - begun).unwrap_or_default())
}
