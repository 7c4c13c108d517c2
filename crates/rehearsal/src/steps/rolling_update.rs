//! A new release, while people ask and airports change.

use tokio::time::Instant;

use crate::{
    core::report::{Figure, Section},
    pods::pods,
    stage::{Connections, PACE, RATE, Stage},
};

/// Deploys the next release.
pub async fn rehearse(stage: &mut Stage, tag: &str) -> anyhow::Result<Section> {
    let mut section = super::section(
        "A rolling update of every service",
        "`setup_cluster.sh deploy --tag NEXT`: the migration Job of the next release, then every Deployment, while \
         people ask and airports change.",
    );
    let busy = stage.begin(RATE, PACE)?;
    let begun = Instant::now();
    stage.cluster.deploy(tag).await?;
    section.figures.push(Figure::took("the update took", begun.elapsed()));
    let pods = pods(&stage.cluster).await?;
    let (new, all) = (pods.iter().filter(|pod| pod.image.ends_with(&format!(":{tag}"))).count(), pods.len());
    section.figures.push(Figure::check("pods that run the next release", new == all, format!("{new} of {all}")));
    stage.end(busy, Connections::Stand, &mut section).await?;
    Ok(section)
}
