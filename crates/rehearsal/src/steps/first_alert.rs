//! From nothing to the first alert.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    cluster::Cluster,
    core::report::{Figure, Section},
    people::{self, Speaks},
    sky::{AIRPORTS, Sky},
    stage::Stage,
};

/// What is promised.
const FIRST_ALERT: Duration = Duration::from_secs(60);

/// Deploys, and registers the first person and then everybody.
pub async fn rehearse(cluster: Cluster, tag: &str) -> anyhow::Result<(Stage, Section)> {
    let mut section = super::section(
        "From nothing to the first alert",
        "`setup_cluster.sh deploy` on an empty cluster; then a person registers through HTTPS and watches a busy \
         airport.",
    );
    let sky = Sky::start().await?;
    sky.set(AIRPORTS[0], true)?;
    let begun = Instant::now();
    cluster.deploy(tag).await?;
    let deployed = begun.elapsed();
    let authority = cluster.authority().await?;
    let client = people::client(&authority, Speaks::Http1)?;
    let registered = Instant::now();
    people::register(&client, 0, &AIRPORTS[..1]).await?;
    sky.first_message(Duration::from_secs(60)).await?;
    let (told, all) = (registered.elapsed(), begun.elapsed());
    section.figures.push(Figure::took("deployed, and the API called as a user", deployed));
    section.figures.push(Figure::took("from registering to the message", told));
    section.figures.push(Figure::within("from nothing to the first alert", all, FIRST_ALERT));
    // Everybody else begins with a calm sky, so that all are told the same from here on.
    sky.set(AIRPORTS[0], false)?;
    let mut stage = Stage::new(cluster, sky, client, authority);
    stage.recovered(AIRPORTS[0]).await?;
    let registering = Instant::now();
    people::register_all(&stage.client).await?;
    let seconds = registering.elapsed().as_secs_f64();
    let requests = people::PEOPLE as usize * (2 + AIRPORTS.len());
    section.figures.push(Figure::of("registering everybody", format!("{requests} requests in {seconds:.1} s")));
    stage.open_account().await?;
    Ok((stage, section))
}
