//! A real Prometheus of a test's own.

use std::{fs, path::PathBuf, time::Duration};

use runtime::config::{ProcessEnv, Vars};
use serde_json::Value;
use testkit::{Folder, Process};

use crate::PATIENCE;

/// A running Prometheus.
pub struct Prometheus {
    process: Process,
    api: String,
    client: reqwest::Client,
    _folder: Folder,
}

impl Prometheus {
    /// Starts the one in PATH with this configuration. It is stopped by [`Self::stop`], killed when a test fails, and
    /// killed by the folder's watchdog when the test's process is.
    pub async fn start(configuration: &Value) -> Self {
        let folder = Folder::watched().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        // JSON is YAML.
        fs::write(&config, configuration.to_string()).expect("written");
        let addr = testkit::free_addr();
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address={addr}"),
            "--log.level=warn".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let nothing: [(&str, &str); 0] = [];
        let process = Process::start(program(), &arguments, nothing);
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).expect("a folder");
        fs::write(logs.join("prometheus.pid"), format!("{}\n", process.pid())).expect("written");
        let client = testkit::http_client();
        let mut prometheus = Self { process, api: format!("http://{addr}/api/v1"), client, _folder: folder };
        let ready = format!("http://{addr}/-/ready");
        testkit::wait_for("Prometheus to be ready", PATIENCE, async || {
            assert!(!prometheus.process.is_over(), "Prometheus ended:\n{}", prometheus.process.log());
            matches!(prometheus.client.get(&ready).send().await, Ok(answer) if answer.status() == 200)
        })
        .await;
        prometheus
    }

    /// The answer to a question: its data, or why there is none.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let mut url: reqwest::Url = format!("{}/{path}", self.api).parse().expect("a URL");
        url.query_pairs_mut().extend_pairs(parameters);
        let asked = self.client.get(url).timeout(Duration::from_secs(30)).send().await;
        let answer = asked.unwrap_or_else(|error| panic!("ask Prometheus: {error}\n{}", self.process.log()));
        let mut answer: Value = answer.json().await.expect("JSON");
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(answer["error"].to_string()) }
    }

    /// The values that an expression has now.
    pub async fn values(&self, expr: &str) -> Result<Vec<f64>, String> {
        let data = self.ask("query", &[("query", expr)]).await?;
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).expect("a number");
        let series = data["result"].as_array().expect("series");
        Ok(series.iter().map(|series| number(&series["value"][1])).collect())
    }

    /// Stops it in order.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}

fn program() -> PathBuf {
    let path = ProcessEnv.get("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join("prometheus"));
    candidates.find(|file| file.is_file()).expect("prometheus is missing: make deps-test brings it")
}
