//! The committed configuration, rules and dashboards.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

fn component() -> PathBuf {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    repository.join("k8s/components/prometheus").canonicalize().expect("the component")
}

fn yaml(name: &str) -> Value {
    let text = fs::read_to_string(component().join(name)).expect(name);
    serde_saphyr::from_str(&text).expect(name)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The committed configuration for one process at `admin`: found without Kubernetes, with every label that relabelling
/// gives there, and looked at as often as a short run needs.
pub fn configuration(admin: &str) -> Value {
    let mut config = yaml("prometheus.yml");
    config["global"] = json!({"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"});
    config["rule_files"] = json!([component().join("rules.yaml")]);
    let config_object = config.as_object_mut().expect("an object");
    config_object.remove("alerting").expect("alerting");
    let jobs = config["scrape_configs"].as_array_mut().expect("jobs");
    assert_eq!(jobs.len(), 1, "each job needs a target here");
    let job = jobs[0].as_object_mut().expect("a job");
    job.remove("kubernetes_sd_configs").expect("found by Kubernetes");
    let relabelling = job.remove("relabel_configs").expect("relabelling");
    let steps = relabelling.as_array().expect("steps").iter();
    let labels: serde_json::Map<_, _> =
        steps.filter_map(|step| Some((step.get("target_label")?.as_str()?.to_owned(), json!("demo")))).collect();
    assert!(labels.contains_key("pod") && labels.contains_key("workload"), "{labels:?}");
    job.insert("static_configs".to_owned(), json!([{"targets": [admin], "labels": labels}]));
    config
}

/// A rule, and what it asks.
pub struct Rule {
    pub name: String,
    pub expr: String,
    pub records: bool,
}

/// All rules.
pub fn rules() -> Vec<Rule> {
    let committed = yaml("rules.yaml");
    let groups = committed["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    rules
        .map(|rule| {
            let records = rule.get("record").is_some();
            let name = if records { &rule["record"] } else { &rule["alert"] };
            Rule { name: text(name), expr: text(&rule["expr"]), records }
        })
        .collect()
}

/// What a dashboard asks: `name` says where, `expr` as it is written, with Grafana's variables.
pub struct Query {
    pub dashboard: String,
    pub panel: String,
    pub expr: String,
}

impl Query {
    /// How it is called in a failure.
    pub fn name(&self) -> String {
        format!("{}, panel {:?}", self.dashboard, self.panel)
    }
}

/// A variable of a dashboard whose values are those of a label.
#[derive(Debug)]
pub struct Variable {
    pub name: String,
    pub metric: String,
    pub label: String,
}

/// All dashboards.
#[derive(Default)]
pub struct Dashboards {
    pub queries: Vec<Query>,
    pub variables: Vec<Variable>,
}

/// Every query and variable of every dashboard.
pub fn dashboards() -> Dashboards {
    let mut all = Dashboards::default();
    let mut files: Vec<_> = fs::read_dir(component().join("dashboards"))
        .expect("dashboards")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    for file in files {
        let board: Value = serde_json::from_str(&fs::read_to_string(&file).expect("readable")).expect("JSON");
        let asked_before = all.queries.len();
        // A row that is folded holds its panels itself.
        let rows = board["panels"].as_array().expect("panels").iter();
        let panels = rows.flat_map(|panel| {
            let folded = panel["panels"].as_array().map(Vec::as_slice).unwrap_or_default();
            std::iter::once(panel).chain(folded)
        });
        for panel in panels.filter(|panel| panel["type"] != "row" && panel["type"] != "text") {
            let (dashboard, title) = (text(&board["uid"]), text(&panel["title"]));
            let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("{dashboard}: {title} asks nothing"));
            all.queries.extend(targets.iter().map(|target| Query {
                dashboard: dashboard.clone(),
                panel: title.clone(),
                expr: text(&target["expr"]),
            }));
        }
        assert!(all.queries.len() > asked_before, "{} asks nothing", file.display());
        let variables = board["templating"]["list"].as_array().expect("variables").iter();
        all.variables.extend(variables.filter(|variable| variable["type"] == "query").map(variable));
    }
    all
}

fn variable(variable: &Value) -> Variable {
    let definition = text(&variable["definition"]);
    let arguments = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    let (metric, label) = arguments.and_then(|both| both.split_once(", ")).unwrap_or_else(|| panic!("{definition}"));
    Variable { name: text(&variable["name"]), metric: metric.to_owned(), label: label.to_owned() }
}
