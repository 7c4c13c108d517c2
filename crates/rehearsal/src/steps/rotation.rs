//! Certificates and secrets change without downtime.

use std::time::Duration;

use anyhow::Context;
use chrono::Utc;

use crate::{
    core::report::{Figure, Section},
    people::{self, Speaks, URL},
    pods::wait_until,
    sky::Sky,
    stage::{Connections, PACE, RATE, Stage},
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
    section.figures.push(Figure::check("another certificate is presented", presented(stage).await? != before, "yes"));
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
        "OpenSky's account is given to a system that had none, and the passwords of all databases change (`ALTER \
         ROLE`, then the operator's `.env`); `setup_cluster.sh secrets` takes over what has changed, while people ask.",
    );
    let busy = stage.begin(RATE, PACE)?;
    let (id, secret) = Sky::account();
    stage.cluster.set_credential("OPEN_SKY_CLIENT_ID", &id).await?;
    stage.cluster.set_credential("OPEN_SKY_CLIENT_SECRET", &secret).await?;
    for service in ["user-manager", "data-collector", "alert-system", "notifier"] {
        let role = service.replace('-', "_");
        let key = format!("{}_DATABASE_URL", role.to_uppercase());
        let password = format!("rotated-{}", Utc::now().timestamp_micros());
        let url = with_password(&stage.cluster.credential(&key).await?, &password)?;
        stage.cluster.sql("postgres", &format!("ALTER ROLE {role} PASSWORD '{password}'")).await?;
        stage.cluster.set_credential(&key, &url).await?;
    }
    stage.cluster.secrets(&[]).await?;
    stage.cluster.rolled_out().await?;
    let limit = Duration::from_secs(60);
    wait_until("OpenSky to be asked with its account", limit, async || Ok(stage.sky.is_signed_in())).await?;
    stage.end(busy, Connections::Stand, &mut section).await?;
    section.figures.push(Figure::check("OpenSky is asked with the account", stage.sky.is_signed_in(), "yes"));
    Ok(section)
}

/// The address with another password.
fn with_password(url: &str, password: &str) -> anyhow::Result<String> {
    let parts = url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?)));
    let (scheme, (account, place)) = parts.context("a database's address has no account")?;
    let role = account.split(':').next().unwrap_or_default();
    Ok(format!("{scheme}://{role}:{password}@{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_of_an_address_changes() {
        let url = with_password("postgres://notifier:old@10.77.0.1/notifier", "new").expect("an address");
        assert_eq!(url, "postgres://notifier:new@10.77.0.1/notifier");
        assert!(with_password("postgres://host/database", "new").is_err());
    }
}
