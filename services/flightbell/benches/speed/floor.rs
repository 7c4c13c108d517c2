//! What PostgreSQL alone could do: pgbench with the statements that a service sends.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use crate::deployment::discovery;

/// As many as the callers of the service.
const CLIENTS: &str = "16";

/// The statements of one request, on one database.
pub struct Floor {
    pub database: &'static str,
    /// A script of pgbench's.
    pub script: String,
}

/// The statement of `service` that contains `part` when it stands on one line, as the service's own checks keep it,
/// with `values` in the places of its parameters: pgbench's variables, so that they are parameters again, or SQL that is
/// made of them.
pub fn statement(service: &str, part: &str, values: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(service).join(".sqlx");
    let files = std::fs::read_dir(&folder).expect("the service's statements");
    let mut found = files.filter_map(|file| {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a statement");
        let data: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        // To pgbench a line is a command.
        let query: Vec<_> = data["query"].as_str().expect("a query").split_whitespace().collect();
        Some(query.join(" ")).filter(|query| query.contains(part))
    });
    let query = found.next().unwrap_or_else(|| panic!("{service} has no statement with {part:?}"));
    assert!(found.next().is_none(), "{service} has several statements with {part:?}");
    // From the last one on, so that $1 is not taken for the beginning of $10.
    let numbered = values.iter().enumerate().rev();
    let query = numbered.fold(query, |query, (index, value)| query.replace(&format!("${}", index + 1), value));
    format!("{query};\n")
}

impl Floor {
    /// How often a second all of it can be done.
    pub async fn rate(&self, url: &str, folder: &Path, lasting: Duration) -> f64 {
        let script = folder.join("floor.sql");
        std::fs::write(&script, &self.script).expect("a script");
        let run = Command::new(pgbench())
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--client", CLIENTS])
            .args(["--time", &lasting.as_secs().to_string(), "--file"])
            .arg(&script)
            .arg(url)
            .output()
            .await
            .expect("pgbench runs");
        let (said, complaints) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        let is_whole = run.status.success() && !complaints.contains("ERROR") && !complaints.contains("aborted");
        rate.filter(|_| is_whole).unwrap_or_else(|| panic!("pgbench: {said}{complaints}\n{}", self.script))
    }
}

/// Beside PostgreSQL's other programs, or wherever the path leads.
fn pgbench() -> PathBuf {
    let discovery = discovery();
    let folders = discovery.usual_postgres.into_iter().chain(std::env::split_paths(&discovery.path));
    folders.map(|folder| folder.join("pgbench")).find(|program| program.is_file()).expect("pgbench is installed")
}
