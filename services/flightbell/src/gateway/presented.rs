//! The certificate that the entry presents. It is read again when its files change, since whoever renews it (an
//! operator, cert-manager) does not restart us.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use prometheus::{Gauge, Opts};
use runtime::{ServiceRuntime, periodic::Periodic};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::certificates::Pair;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(5);

/// The certificate in use.
pub(super) struct Presented {
    folder: PathBuf,
    in_use: RwLock<(Pair, Arc<CertifiedKey>)>,
    expiry: Gauge,
}

impl Presented {
    /// Presents `pair` from now on, and what takes its place in `folder` while `runtime` runs.
    ///
    /// # Errors
    /// When certificate and key cannot be used.
    pub(super) fn new(runtime: &ServiceRuntime, folder: &Path, pair: Pair) -> anyhow::Result<Arc<Self>> {
        let expiry = Gauge::with_opts(Opts::new(
            "tls_certificate_expiry_timestamp_seconds",
            "When the certificate that the entry presents ends, in Unix time.",
        ))
        .and_then(|gauge| runtime.registry.register(Box::new(gauge.clone())).map(|()| gauge));
        let expiry = expiry.context("register the gateway's metrics")?;
        let key = Arc::new(pair.certified_key()?);
        let presented = Self { folder: folder.to_owned(), in_use: RwLock::new((pair.clone(), key)), expiry };
        presented.show(&pair);
        let presented = Arc::new(presented);
        let watched = presented.clone();
        let watching = Periodic::new("certificate of the entry", INTERVAL, LIMIT, move || {
            let watched = watched.clone();
            async move { watched.read_again() }
        });
        let watcher = runtime.clone();
        runtime.tasks.spawn("certificate", async move {
            watching.run(&watcher).await;
            Ok(())
        });
        Ok(presented)
    }

    /// How a server presents it: with HTTP/2 and HTTP/1.1 to choose from.
    pub(super) fn server_config(self: Arc<Self>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(self);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// Takes what lies in the folder when it is another pair. One that cannot be used, such as a certificate whose
    /// key is still to come, changes nothing.
    fn read_again(&self) -> anyhow::Result<()> {
        let pair = Pair::read(&self.folder)?;
        if self.in_use.read().unwrap_or_else(PoisonError::into_inner).0 == pair {
            return Ok(());
        }
        let key = Arc::new(pair.certified_key().context("the certificate in use stays")?);
        self.show(&pair);
        match pair.valid_until() {
            Some(end) => tracing::info!("the certificate has changed; the new one is valid until {end}"),
            None => tracing::info!("the certificate has changed"),
        }
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = (pair, key);
        Ok(())
    }

    fn show(&self, pair: &Pair) {
        if let Some(end) = pair.valid_until() {
            #[expect(clippy::cast_precision_loss, reason = "seconds of our time are far below 2^53")]
            self.expiry.set(end.timestamp() as f64);
        }
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.in_use.read().unwrap_or_else(PoisonError::into_inner).1.clone())
    }
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presented").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use runtime::{clock::Clock, tasks::Tasks};

    use super::*;
    use crate::certificates::authority::bring_up_to_date;

    fn renew(folder: &Path, name: &str) -> Pair {
        bring_up_to_date(folder, &[name.parse().expect("a name")], Utc::now()).expect("made");
        Pair::read(folder).expect("a pair")
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_presented_and_one_without_its_key_changes_nothing() {
        runtime::choose_tls();
        let folder = tempfile::tempdir().expect("a folder");
        let first = renew(folder.path(), "one.example.org");
        let runtime = ServiceRuntime::new("gateway", Tasks::default().stopping().clone(), Clock::system());
        let presented = Presented::new(&runtime, folder.path(), first.clone()).expect("presented");
        let in_use = || presented.in_use.read().expect("a lock").0.clone();
        presented.read_again().expect("as it was");
        assert!(in_use() == first);
        assert!(presented.expiry.get() > 1e9);

        let second = renew(folder.path(), "two.example.org");
        let key = folder.path().join("key.pem");
        let new_key = std::fs::read(&key).expect("the new key");
        std::fs::write(&key, "half a key").expect("write");
        assert!(presented.read_again().is_err());
        assert!(in_use() == first, "the certificate in use stays");

        std::fs::write(&key, new_key).expect("write");
        presented.read_again().expect("taken");
        assert!(in_use() == second);
    }
}
