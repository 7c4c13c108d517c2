//! Certificates and secrets change without downtime.

use std::time::Duration;

use anyhow::Context;
use chrono::Utc;

use crate::{
    cluster::SERVICES,
    core::report::{Figure, Section},
    people::{self, Speaks, URL},
    sky::Sky,
    stage::{Connections, PACE, RATE, Stage},
    wait::wait_until,
};

/// Another certificate, of the same authority.
pub async fn certificate(stage: &mut Stage) -> anyhow::Result<Section> {
    let mut section = super::section(
        "The entry's certificate rotated",
        "`setup_cluster.sh secrets --rotate certificate` while people ask. The authority stays, so that nobody has to \
         trust another one.",
    );
    let before = presented(stage).await?;
    let busy = stage.begin(RATE, PACE)?;
    stage.cluster.secrets(&["--rotate", "certificate"]).await?;
    let limit = Duration::from_secs(90);
    wait_until("the new certificate", limit, async || Ok(presented(stage).await? != before)).await?;
    stage.cluster.rolled_out().await?;
    stage.end(busy, Connections::Stand, &mut section).await?;
    section.figures.push(Figure::is("another certificate is presented", presented(stage).await? != before));
    Ok(section)
}

/// The certificate that a new connection is shown.
async fn presented(stage: &Stage) -> anyhow::Result<Vec<u8>> {
    let client =
        people::builder(&stage.authority, Speaks::Http1)?.tls_info(true).build().context("prepare a client")?;
    let response = client.get(format!("{URL}/user-manager/ping")).send().await.context("call the entry")?;
    let info = response.extensions().get::<reqwest::tls::TlsInfo>().context("the connection has no certificate")?;
    Ok(info.peer_certificate().context("no certificate was shown")?.to_vec())
}

/// Other credentials.
pub async fn secrets(stage: &mut Stage) -> anyhow::Result<Section> {
    let mut section = super::section(
        "Secrets rotated",
        "OpenSky's account is given to a system that had none, and all databases get another account and password, as \
         docs/operations.md describes it; `setup_cluster.sh secrets` takes over what has changed, while people ask. \
         Then the old accounts may not sign in any more.",
    );
    let busy = stage.begin(RATE, PACE)?;
    let (id, secret) = Sky::account();
    stage.cluster.set_credential("OPEN_SKY_CLIENT_ID", &id).await?;
    stage.cluster.set_credential("OPEN_SKY_CLIENT_SECRET", &secret).await?;
    for service in SERVICES {
        let (role, key) = (role(service), database_key(service));
        let password = format!("rotated-{}", Utc::now().timestamp_micros());
        // In its sessions it is the role that owns everything.
        let statements = format!(
            "CREATE ROLE {role}_next LOGIN PASSWORD '{password}' IN ROLE {role}; \
             ALTER ROLE {role}_next SET role TO {role}"
        );
        stage.cluster.sql("postgres", &statements).await?;
        let url = with_account(&stage.cluster.credential(&key).await?, &format!("{role}_next"), &password)?;
        stage.cluster.set_credential(&key, &url).await?;
    }
    stage.cluster.secrets(&[]).await?;
    stage.cluster.rolled_out().await?;
    for service in SERVICES {
        stage.cluster.sql("postgres", &format!("ALTER ROLE {} NOLOGIN", role(service))).await?;
    }
    let limit = Duration::from_secs(60);
    wait_until("OpenSky to be asked with its account", limit, async || Ok(stage.sky.is_signed_in())).await?;
    stage.end(busy, Connections::Stand, &mut section).await?;
    section.figures.push(Figure::is("OpenSky is asked with the account", stage.sky.is_signed_in()));
    Ok(section)
}

/// The role that owns a service's database.
fn role(service: &str) -> String {
    service.replace('-', "_")
}

/// Where an operator says how a service's database is reached.
fn database_key(service: &str) -> String {
    format!("{}_DATABASE_URL", role(service).to_uppercase())
}

/// The address with another account.
fn with_account(url: &str, role: &str, password: &str) -> anyhow::Result<String> {
    let parts = url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1)));
    let (scheme, place) = parts.context("a database's address has no account")?;
    Ok(format!("{scheme}://{role}:{password}@{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_account_of_an_address_changes() {
        let url = with_account("postgres://notifier:old@10.77.0.1/notifier", "notifier_next", "new");
        assert_eq!(url.expect("an address"), "postgres://notifier_next:new@10.77.0.1/notifier");
        assert!(with_account("postgres://host/database", "role", "new").is_err());
    }
}
