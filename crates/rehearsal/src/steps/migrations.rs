//! The migration Job: twice, and of an older release.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    core::report::{Figure, Section},
    stage::{Connections, PACE, RATE, Stage},
};

/// The number of a migration that no release has yet.
const LATER: i64 = 9_999;

/// How soon an older release has to be refused.
const REFUSED: Duration = Duration::from_secs(60);

/// Runs the Job again, and after a newer release.
pub async fn rehearse(stage: &mut Stage, tag: &str) -> anyhow::Result<Section> {
    let mut section = super::section(
        "The migration Job run twice, and an older release's after a newer one",
        "The release is deployed again, and its Job with it. Then a database is given the mark of a migration that \
         this release does not know, as a newer release leaves it, and it is deployed once more.",
    );
    let busy = stage.begin(RATE, PACE)?;
    let begun = Instant::now();
    stage.cluster.deploy(tag).await?;
    section.figures.push(Figure::took("a second run, with all of `deploy`", begun.elapsed()));
    let mark = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES ({LATER}, 'of a later release', true, '\\x00', 0)"
    );
    stage.cluster.sql("notifier", &mark).await?;
    let before = generations(stage).await?;
    let begun = Instant::now();
    let refused = stage.cluster.deploy(tag).await;
    let took = begun.elapsed();
    stage.cluster.sql("notifier", &format!("DELETE FROM _sqlx_migrations WHERE version = {LATER}")).await?;
    let said = refused.as_ref().err().map(ToString::to_string).unwrap_or_default();
    // What names this machine's folders is left out.
    let said: Vec<_> =
        said.lines().filter(|line| line.contains("PodFailurePolicy") || line.starts_with("error:")).collect();
    let is_clear = said.iter().any(|line| line.contains("migrated by a newer version"));
    section.figures.push(Figure::is("an older release is refused, with the reason", is_clear));
    section.figures.push(Figure::within("refused after", took, REFUSED));
    section.more = format!("`setup_cluster.sh deploy` then says, among others:\n\n```\n{}\n```", said.join("\n"));
    let is_left = generations(stage).await? == before;
    section.figures.push(Figure::is("the Deployments are left as they are", is_left));
    stage.cluster.deploy(tag).await?;
    stage.end(busy, Connections::Stand, &mut section).await?;
    Ok(section)
}

/// What changes with each Deployment that is changed.
async fn generations(stage: &Stage) -> anyhow::Result<String> {
    stage.cluster.kubectl(&["get", "deployments", "--output=jsonpath={.items[*].metadata.generation}"]).await
}
