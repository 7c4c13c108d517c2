//! The cluster, commanded as operators do: with kubectl, `setup_cluster.sh` and the lab's own script.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::wait::wait_until;

/// Where everything of ours runs.
pub const NAMESPACE: &str = "flightbell";

/// The services: each has a database.
pub const SERVICES: [&str; 4] = ["user-manager", "data-collector", "alert-system", "notifier"];

/// The Deployments, in the order in which reports name them.
pub const DEPLOYMENTS: [&str; 5] = ["user-manager", "data-collector", "alert-system", "notifier", "gateway"];

/// Host and port of the entry: the gateway's Service in the overlay `rehearsal`.
pub const ENTRY: &str = "10.96.0.20:443";

/// How long one command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

/// How long pods may take to end: their grace is 30 s.
const END_LIMIT: Duration = Duration::from_secs(40);

/// How much of a failed command's output an error repeats, in bytes.
const TAIL: usize = 3_000;

/// The lab's node, and the checkout that is deployed to it.
#[derive(Clone)]
pub struct Cluster {
    checkout: PathBuf,
    /// The lab's own folder.
    run: PathBuf,
    /// Credentials, as an operator's `.env`.
    env_file: PathBuf,
    /// Asks pods.
    pub http: reqwest::Client,
}

impl Cluster {
    /// The node whose state is in `run`, and a copy of its credentials in `work`, which the rehearsal changes.
    ///
    /// # Errors
    /// When the servers beside the node have not been started.
    pub async fn new(checkout: PathBuf, run: PathBuf, work: &Path) -> anyhow::Result<Self> {
        let (made, env_file) = (run.join("servers/env"), work.join("env"));
        tokio::fs::copy(&made, &env_file)
            .await
            .with_context(|| format!("read {}: start the servers with k8s/lab/lab servers up", made.display()))?;
        let http = reqwest::Client::builder().no_proxy().build().context("prepare a client")?;
        Ok(Self { checkout, run, env_file, http })
    }

    /// What kubectl answers.
    ///
    /// # Errors
    /// When it fails; the error holds the end of what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("kubectl");
        command.args(["--namespace", NAMESPACE]).args(arguments);
        output(command).await
    }

    /// Deploys the images of `tag`.
    ///
    /// # Errors
    /// When it fails, as above.
    pub async fn deploy(&self, tag: &str) -> anyhow::Result<String> {
        self.set_up("deploy", &["--overlay", "rehearsal", "--tag", tag]).await
    }

    /// Has `setup_cluster.sh secrets` take over what has changed.
    ///
    /// # Errors
    /// When it fails, as above.
    pub async fn secrets(&self, options: &[&str]) -> anyhow::Result<String> {
        self.set_up("secrets", options).await
    }

    async fn set_up(&self, action: &str, options: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.checkout.join("setup_cluster.sh"));
        command.arg(action).args(options).arg("--yes").arg("--env-file").arg(&self.env_file);
        command.args(["--url", "https://localhost", "--entry", ENTRY, "--timeout", "240"]);
        output(command).await
    }

    /// Sets a credential in the operator's file, in place of the one before.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub async fn set_credential(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let before = tokio::fs::read_to_string(&self.env_file).await.context("read the credentials")?;
        let prefix = format!("{key}=");
        let mut lines: Vec<&str> = before.lines().filter(|line| !line.starts_with(&prefix)).collect();
        let line = format!("{prefix}{value}");
        lines.push(&line);
        tokio::fs::write(&self.env_file, lines.join("\n") + "\n").await.context("write the credentials")
    }

    /// What the operator's file says about a key.
    ///
    /// # Errors
    /// When it says nothing.
    pub async fn credential(&self, key: &str) -> anyhow::Result<String> {
        let text = tokio::fs::read_to_string(&self.env_file).await.context("read the credentials")?;
        let prefix = format!("{key}=");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned);
        value.with_context(|| format!("the credentials hold no {key}"))
    }

    /// Runs the lab's script: `servers down kafka`, for example.
    ///
    /// # Errors
    /// When it fails, as above.
    pub async fn lab(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.checkout.join("k8s/lab/lab"));
        command.args(arguments);
        output(command).await
    }

    /// Runs a statement as PostgreSQL's superuser.
    ///
    /// # Errors
    /// When it fails, as above.
    pub async fn sql(&self, database: &str, statement: &str) -> anyhow::Result<String> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--", "psql", "--no-psqlrc", "--quiet"]);
        command.args(["--set=ON_ERROR_STOP=1", "--tuples-only", "--no-align", "--dbname", database, "--host"]);
        command.arg(self.run.join("servers/postgres")).args(["--command", statement]);
        output(command).await
    }

    /// The certificate of the authority that signed the entry's.
    ///
    /// # Errors
    /// When the cluster has none.
    pub async fn authority(&self) -> anyhow::Result<String> {
        let template = "--output=go-template={{index .data \"ca.crt\" | base64decode}}";
        self.kubectl(&["get", "secret", "flightbell-tls", template]).await
    }

    /// Waits until the pods of all Deployments are ready, and those that were replaced have ended.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn rolled_out(&self) -> anyhow::Result<()> {
        for deployment in DEPLOYMENTS {
            let name = format!("deployment/{deployment}");
            self.kubectl(&["rollout", "status", &name, "--timeout=120s"]).await?;
            // Status counts pods no more that still answer who does not know yet.
            let selector = format!("--selector=app.kubernetes.io/name={deployment}");
            let deleted = "--output=jsonpath={.items[*].metadata.deletionTimestamp}";
            wait_until("pods that were replaced to end", END_LIMIT, async || {
                Ok(self.kubectl(&["get", "pods", &selector, deleted]).await?.trim().is_empty())
            })
            .await?;
        }
        Ok(())
    }
}

/// What a command prints.
async fn output(mut command: Command) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.as_std().get_program());
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = tokio::time::timeout(COMMAND_LIMIT, running).await;
    let ended =
        ended.with_context(|| format!("{shown} did not end in time"))?.with_context(|| format!("run {shown}"))?;
    let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
    if !ended.status.success() {
        let all = printed + &String::from_utf8_lossy(&ended.stderr);
        bail!("{shown} ended with {}:\n{}", ended.status, tail(&all));
    }
    Ok(printed)
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
