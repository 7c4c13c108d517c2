//! The parts of the rehearsal, in their order.

mod deaths;
mod first_alert;
mod migrations;
mod outages;
mod resources;
mod rolling_update;
mod rotation;
mod scaling;

use tokio::time::Instant;

use crate::{
    cluster::Cluster,
    core::report::{Report, Section},
    people, sky,
    stage::Stage,
};

/// All parts. What is missed is in the report; an error ends the rehearsal.
///
/// # Errors
/// When something cannot be done at all.
pub async fn all(cluster: Cluster, old: &str, new: &str, report: &mut Report) -> anyhow::Result<()> {
    let begun = Instant::now();
    let (mut stage, first) = first_alert::rehearse(cluster, old).await?;
    report.sections.push(first);
    report.introduction = introduction(&stage).await?;
    let idle = resources::idle(&stage).await?;
    let sampler = resources::Sampler::begin(stage.cluster.clone());
    report.sections.push(rolling_update::rehearse(&mut stage, new).await?);
    report.sections.push(deaths::pods_killed(&mut stage).await?);
    let mut loaded = sampler.end().await;
    // What takes the memory then is not the services.
    report.sections.push(deaths::out_of_memory(&mut stage).await?);
    let sampler = resources::Sampler::begin(stage.cluster.clone());
    report.sections.push(deaths::kubelet_stopped(&mut stage).await?);
    report.sections.push(scaling::rehearse(&mut stage).await?);
    resources::add(&mut loaded, sampler.end().await);
    report.sections.push(outages::rehearse(&mut stage, &outages::KAFKA).await?);
    report.sections.push(outages::rehearse(&mut stage, &outages::POSTGRES).await?);
    report.sections.push(rotation::certificate(&mut stage).await?);
    report.sections.push(rotation::secrets(&mut stage).await?);
    report.sections.push(migrations::rehearse(&mut stage, new).await?);
    let mut whole = section("The whole account", "Everything since all people were registered.");
    stage.whole(&mut whole).await?;
    report.sections.push(whole);
    report.sections.push(resources::section(&stage, &idle, &loaded).await?);
    report.introduction.push_str(&format!("All of it took {} s.", begun.elapsed().as_secs()));
    Ok(())
}

async fn introduction(stage: &Stage) -> anyhow::Result<String> {
    let version = "--output=jsonpath={.items[0].status.nodeInfo.kubeletVersion}";
    let version = stage.cluster.kubectl(&["get", "nodes", version]).await?;
    Ok(format!(
        "Written by `make rehearse-k8s`: Flightbell on one real node (Kubernetes {}, containerd, {} cores), with \
         Apache Kafka and\nPostgreSQL beside it and stand-ins for OpenSky and Telegram. {} people watch {} airports \
         each, which are read every 5 s.\nWhat had to be told follows from the readings that the API lists, by a rule \
         of the rehearsal's own; what was told is what\nthe stand-in for Telegram received, number by number. A client whose \
         connection breaks asks again after 0.1, 0.4 and 1 s;\nwhatever is no success then is a failure.\n",
        version.trim_start_matches('v'),
        std::thread::available_parallelism()?,
        people::PEOPLE,
        sky::AIRPORTS.len(),
    ))
}

/// A section that has its title, and what was done.
fn section(title: &str, done: &str) -> Section {
    tell(title);
    Section { title: title.to_owned(), done: done.to_owned(), ..Section::default() }
}

#[expect(clippy::print_stdout, reason = "whoever waits sees what goes on")]
fn tell(what: &str) {
    println!("==> {what}");
}
