//! More replicas and fewer, while airports change quickly.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    core::report::{Figure, Section},
    pods::{all_ready, wait_until},
    stage::{Connections, RATE, Stage},
};

/// How often an airport changes: each of eight with every reading or the next but one.
const QUICK: Duration = Duration::from_millis(700);

/// How long each number of replicas works.
const BETWEEN: Duration = Duration::from_secs(15);

/// How soon everything has to be read again after a change, in seconds.
const LAG_GONE: f64 = 30.0;

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
        let gone = stage.lag_is_gone("alert-system", Duration::from_secs(60)).await?;
        let what = format!("everything read after scaling to {replicas}");
        section.figures.push(Figure::seconds(what, gone.as_secs_f64(), LAG_GONE));
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
