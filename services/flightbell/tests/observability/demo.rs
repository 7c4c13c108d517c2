//! A real run: `flightbell demo`.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use runtime::config::{ProcessEnv, Vars};
use serde_json::json;
use testkit::{Folder, Process};

/// A running demo.
pub struct Demo {
    /// Its process.
    pub process: Process,
    /// Where it answers through HTTPS.
    pub base: String,
    /// Trusts its certificate.
    pub client: reqwest::Client,
    uses: AtomicU32,
    // Where its folder is; goes with what still runs on it.
    _temporary: Folder,
}

impl Demo {
    /// Starts one, `speed` times as fast as in reality, with `more` in its environment.
    pub async fn start(speed: u32, more: &[(&str, &str)]) -> Self {
        let temporary = Folder::watched().expect("a folder");
        let variable = |key: &str| ProcessEnv.get(key).filter(|value| !value.is_empty());
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| Path::new(&variable("HOME").expect("a home")).join(".cache"));
        let mut environment = vec![
            ("XDG_CACHE_HOME", cache.display().to_string()),
            ("TMPDIR", temporary.path().display().to_string()),
            ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
        ];
        let servers = ["JAVA_HOME", "KAFKA_HOME"].into_iter();
        environment.extend(servers.filter_map(|key| Some((key, variable(key)?))));
        environment.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let speed = speed.to_string();
        let arguments = ["demo", "--speed", &speed, "--listen", "127.0.0.1:0", "--page", "127.0.0.1:0"];
        let mut process = Process::start(env!("CARGO_BIN_EXE_flightbell"), &arguments, environment);
        process.says("open ").await;
        let base = process.says("export AIR=").await;
        let authority = tokio::fs::read(process.says("export CA=").await).await.expect("the certificate");
        let authority = reqwest::Certificate::from_pem(&authority).expect("a certificate");
        runtime::choose_tls();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).timeout(crate::PATIENCE);
        Self {
            process,
            base,
            client: client.build().expect("a client"),
            uses: AtomicU32::new(0),
            _temporary: temporary,
        }
    }

    /// Asks every service that answers HTTP for something, and changes an interest, which gives data-collector a job.
    /// Called again and again, it leaves a busy machine time for its work.
    pub async fn is_used(&self) {
        let ping = self.client.get(format!("{}/user-manager/ping", self.base));
        let readings = self.client.get(format!("{}/data-collector/readings/LFPG?metric=live", self.base));
        let high = 1000 + self.uses.fetch_add(1, Ordering::Relaxed) % 100;
        let interest = json!({"email": "sam@flightbell.example", "airport_code": "KSFO", "metric": "arrivals",
            "low_value": 400, "high_value": high});
        let change = self.client.put(format!("{}/data-collector/interests", self.base)).json(&interest);
        for request in [ping, readings, change] {
            let answer = request.send().await.expect("answered");
            // On a machine that is too busy, a service may say so.
            assert!([200, 503].contains(&answer.status().as_u16()), "{answer:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
