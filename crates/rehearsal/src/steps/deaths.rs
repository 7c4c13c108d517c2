//! Pods, containers and the kubelet end without a warning.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    cluster::DEPLOYMENTS,
    core::report::{Figure, Section},
    pods::{self, Pod, all_ready, restarts},
    stage::{Connections, PACE, RATE, Stage},
    wait::wait_until,
};

/// How long the kubelet is away.
const KUBELET_AWAY: Duration = Duration::from_secs(20);

/// How soon what died has to be back.
const BACK: Duration = Duration::from_secs(30);

/// Processes and pods end without a warning.
pub async fn pods_killed(stage: &mut Stage) -> anyhow::Result<Section> {
    let mut section = super::section(
        "Pods killed",
        "The processes of one pod of every Deployment end by SIGKILL, one after the other; then one pod of each is \
         deleted without grace. Telegram takes no ids: a message whose answer was lost with notifier would come twice.",
    );
    let busy = stage.begin(RATE, PACE)?;
    for deployment in DEPLOYMENTS {
        let victim = first_pod(stage, deployment).await?;
        for process in processes(&victim).await? {
            kill(process).await;
        }
        restarted(stage, &victim).await?;
        all_ready(&stage.cluster, Duration::from_secs(60)).await?;
    }
    let mut slowest = Duration::ZERO;
    for deployment in DEPLOYMENTS {
        let victim = first_pod(stage, deployment).await?;
        stage.cluster.kubectl(&["delete", "pod", &victim.name, "--force", "--grace-period=0"]).await?;
        slowest = slowest.max(all_ready(&stage.cluster, Duration::from_secs(60)).await?);
    }
    section.figures.push(Figure::within("a pod's replacement was ready within", slowest, BACK));
    stage.end(busy, Connections::MayBreak, &mut section).await?;
    Ok(section)
}

/// Services end because their container's memory is used up.
pub async fn out_of_memory(stage: &mut Stage) -> anyhow::Result<Section> {
    let mut section = super::section(
        "Containers killed by memory",
        "Something in the container of one pod of every Deployment takes all the memory that its limit allows; the \
         kernel ends the service.",
    );
    let busy = stage.begin(RATE, PACE)?;
    let mut reasons = BTreeSet::new();
    for deployment in DEPLOYMENTS {
        let victim = first_pod(stage, deployment).await?;
        starve(&victim).await?;
        reasons.extend(restarted(stage, &victim).await?.last_end);
        all_ready(&stage.cluster, Duration::from_secs(60)).await?;
    }
    let reasons = reasons.into_iter().collect::<Vec<_>>().join(", ");
    section.figures.push(Figure::check("why they ended, says Kubernetes", reasons == "OOMKilled", reasons.clone()));
    stage.end(busy, Connections::MayBreak, &mut section).await?;
    Ok(section)
}

/// The node's kubelet stops, and a container ends that nobody looks after.
pub async fn kubelet_stopped(stage: &mut Stage) -> anyhow::Result<Section> {
    let mut section = super::section(
        "The kubelet stopped and started",
        "The node's kubelet is away for 20 s, so nobody looks after a container of alert-system that is killed then.",
    );
    let before = restarts(&stage.cluster).await?;
    let victim = first_pod(stage, "alert-system").await?;
    let busy = stage.begin(RATE, PACE)?;
    stage.cluster.lab(&["kubelet", "down"]).await?;
    for process in processes(&victim).await? {
        kill(process).await;
    }
    sleep(KUBELET_AWAY).await;
    let begun = Instant::now();
    stage.cluster.lab(&["kubelet", "up"]).await?;
    restarted(stage, &victim).await?;
    all_ready(&stage.cluster, Duration::from_secs(60)).await?;
    let back = begun.elapsed();
    section.figures.push(Figure::within("the container started again, and all ready", back, BACK));
    stage.end(busy, Connections::Stand, &mut section).await?;
    let mut now = restarts(&stage.cluster).await?;
    now.entry(victim.name).and_modify(|restarts| *restarts -= 1);
    section.figures.push(Figure::is("the other containers run on", now == before));
    Ok(section)
}

async fn first_pod(stage: &Stage, deployment: &str) -> anyhow::Result<Pod> {
    let pods = pods::pods(&stage.cluster).await?;
    pods.into_iter().find(|pod| pod.deployment == deployment).with_context(|| format!("{deployment} has no pod"))
}

/// Waits until the pod's container was started once more.
async fn restarted(stage: &Stage, victim: &Pod) -> anyhow::Result<Pod> {
    let mut found = None;
    wait_until("a container to be started again", Duration::from_secs(60), async || {
        let pods = pods::pods(&stage.cluster).await?;
        found = pods.into_iter().find(|pod| pod.name == victim.name && pod.restarts > victim.restarts);
        Ok(found.is_some())
    })
    .await?;
    found.context("it was found")
}

/// The control group of a pod's container in the hierarchy of `controller`, or in that of cgroup v2.
async fn group_of(process: u32, controller: &str) -> anyhow::Result<PathBuf> {
    let text = tokio::fs::read_to_string(format!("/proc/{process}/cgroup")).await.context("read a process's groups")?;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if controllers.split(',').any(|one| one == controller) {
            return Ok(PathBuf::from(format!("/sys/fs/cgroup/{controllers}{path}")));
        }
        if controllers.is_empty() && PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists() {
            return Ok(PathBuf::from(format!("/sys/fs/cgroup{path}")));
        }
    }
    anyhow::bail!("the process {process} is in no group of {controller}")
}

/// The processes of a pod's service: those in its groups that run as somebody, and not the pod's pause.
async fn processes(pod: &Pod) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut entries = tokio::fs::read_dir("/proc").await?;
    while let Some(entry) = entries.next_entry().await? {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let read = async |what| tokio::fs::read_to_string(format!("/proc/{process}/{what}")).await.unwrap_or_default();
        let program = read("cmdline").await;
        if read("cgroup").await.contains(&pod.uid) && program.contains("/usr/local/bin/") {
            found.push(process);
        }
    }
    ensure!(!found.is_empty(), "{} has no process", pod.name);
    Ok(found)
}

async fn kill(process: u32) {
    // It may be gone already.
    drop(Command::new("kill").args(["-KILL", &process.to_string()]).status().await);
}

/// Takes memory in the container's group until its service is killed. The service is chosen, and not what takes the
/// memory, because Kubernetes gives containers a higher score than processes of the system have.
async fn starve(victim: &Pod) -> anyhow::Result<()> {
    let process = *processes(victim).await?.first().context("it has a process")?;
    let group = group_of(process, "memory").await?;
    let script = "echo $$ >\"$1/cgroup.procs\" && exec tail /dev/zero";
    let hog = Command::new("sh").args(["-c", script, "sh"]).arg(group).kill_on_drop(true).spawn();
    let mut hog = hog.context("take memory in the container")?;
    let is_gone = async || Ok(!tokio::fs::try_exists(format!("/proc/{process}")).await?);
    let waited = wait_until("a service to be killed by memory", Duration::from_secs(60), is_gone).await;
    hog.kill().await.context("end what took the memory")?;
    waited.map(drop)
}
