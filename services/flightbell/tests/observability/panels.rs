//! Every panel and every rule asks what a real Prometheus answers, about metrics that the code registers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    PATIENCE,
    committed::{self, Dashboards, Query, Rule, Variable},
    demo::Demo,
    prometheus::Prometheus,
    promql,
};

/// Panels that a healthy demo leaves empty, by dashboard and title, and why.
const MAY_BE_EMPTY: [(&str, &str, &str); 3] = [
    ("flightbell-services", "Parts that are down", "every part is up"),
    ("flightbell-stores", "Jobs that found a dependency away", "every dependency is there"),
    ("flightbell-stores", "Dead letters and skipped records", "every record is settled by its handler"),
];

/// What Prometheus itself tells.
const PROMETHEUS_OWN: [&str; 2] = ["up", "ALERTS"];

/// How often the demo is scraped before panels are looked at: a rate needs two scrapes.
const SCRAPES: f64 = 5.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_scrapes_a_demo_answers_every_panel_and_rule() {
    let (Dashboards { queries, variables }, rules) = (committed::dashboards(), committed::rules());
    // Before the demo, so that Prometheus sees each counter at 0.
    let admin = testkit::free_addr().to_string();
    let prometheus = Prometheus::start(&committed::configuration(&admin)).await;
    // At that speed the first alert is sent after twenty seconds, and the recordings end after eighty.
    let demo = Demo::start(120, &[("ADMIN_ADDR", &admin)]).await;
    testkit::wait_for("Prometheus to scrape the demo", PATIENCE, async || {
        demo.is_used().await;
        let scrapes = prometheus.values("sum_over_time(up{job=\"flightbell\"}[10m])").await.expect("accepted");
        scrapes.first().is_some_and(|scrapes| *scrapes >= SCRAPES)
    })
    .await;

    let mut chosen = BTreeMap::new();
    for variable in &variables {
        let of_metric = [("match[]", variable.metric.as_str())];
        let values = prometheus.ask(&format!("label/{}/values", variable.label), &of_metric).await.expect("accepted");
        let values: Vec<_> = values.as_array().expect("values").iter().filter_map(Value::as_str).collect();
        assert!(!values.is_empty(), "{variable:?} has no values");
        chosen.insert(format!("${}", variable.name), values.join("|"));
    }
    every_panel_has_data(&prometheus, &demo, &queries, &chosen).await;
    every_rule_is_healthy(&prometheus, &rules).await;
    every_metric_is_registered(&admin, &queries, &rules, &variables).await;
    demo.process.stop().await;
    prometheus.stop().await;
}

/// As Grafana writes the query for all values of the variables; the range is one in which counters have counted here.
fn filled_in(expr: &str, chosen: &BTreeMap<String, String>) -> String {
    let filled = expr.replace("$__rate_interval", "1m");
    let filled = chosen.iter().fold(filled, |filled, (name, values)| filled.replace(name.as_str(), values));
    assert!(!filled.contains('$'), "an unknown variable: {filled}");
    filled
}

fn may_be_empty(query: &Query) -> bool {
    MAY_BE_EMPTY.iter().any(|(dashboard, panel, _)| (*dashboard, *panel) == (&query.dashboard, &query.panel))
}

async fn every_panel_has_data(
    prometheus: &Prometheus,
    demo: &Demo,
    queries: &[Query],
    chosen: &BTreeMap<String, String>,
) {
    for (dashboard, panel, why) in MAY_BE_EMPTY {
        let is_there =
            queries.iter().any(|query| (query.dashboard.as_str(), query.panel.as_str()) == (dashboard, panel));
        assert!(is_there, "{dashboard} has no panel {panel:?}, of which is said: {why}");
    }
    for query in queries {
        let (name, expr) = (query.name(), filled_in(&query.expr, chosen));
        testkit::wait_for(&format!("data for {name}, which asks {expr}"), PATIENCE, async || {
            let values = prometheus.values(&expr).await.unwrap_or_else(|error| panic!("{name} asks {expr}: {error}"));
            // A panel shows nothing of a number that is none.
            let has_data = may_be_empty(query) || values.iter().any(|value| value.is_finite());
            if !has_data {
                demo.is_used().await;
            }
            has_data
        })
        .await;
    }
}

async fn every_rule_is_healthy(prometheus: &Prometheus, rules: &[Rule]) {
    for Rule { name, expr, .. } in rules {
        prometheus.values(expr).await.unwrap_or_else(|error| panic!("{name} asks {expr}: {error}"));
    }
    let loaded = async || -> Vec<Value> {
        let data = prometheus.ask("rules", &[]).await.expect("accepted");
        let groups = data["groups"].as_array().expect("groups").iter();
        groups.flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
    };
    testkit::wait_for("every rule to be evaluated", PATIENCE, async || {
        loaded().await.iter().all(|rule| rule["health"] != "unknown")
    })
    .await;
    let loaded = loaded().await;
    assert_eq!(loaded.len(), rules.len());
    for rule in loaded {
        assert_eq!(rule["health"], "ok", "{}: {}", rule["name"], rule["lastError"]);
    }
}

/// Each is on the page that the demo's `/metrics` shows, or recorded by a rule, or Prometheus's own. The demo's process
/// has every service and the gateway in it, so that no metric is another process's alone.
async fn every_metric_is_registered(admin: &str, queries: &[Query], rules: &[Rule], variables: &[Variable]) {
    let asked = testkit::http_client().get(format!("http://{admin}/metrics")).send().await.expect("answered");
    let page = asked.text().await.expect("a page");
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let exposed = samples.filter_map(|line| line.split(['{', ' ']).next());
    let recorded = rules.iter().filter(|rule| rule.records).map(|rule| rule.name.as_str());
    let known: BTreeSet<&str> = exposed.chain(recorded).chain(PROMETHEUS_OWN).collect();

    let of_queries = queries.iter().map(|query| (query.name(), promql::metrics(&query.expr)));
    let of_rules = rules.iter().map(|rule| (rule.name.clone(), promql::metrics(&rule.expr)));
    let of_variables =
        variables.iter().map(|variable| (variable.name.clone(), BTreeSet::from([variable.metric.as_str()])));
    let mut unknown = Vec::new();
    for (place, metrics) in of_queries.chain(of_rules).chain(of_variables) {
        unknown.extend(metrics.difference(&known).map(|metric| format!("{place}: {metric}")));
    }
    assert!(unknown.is_empty(), "metrics that nobody registers:\n{}", unknown.join("\n"));
}
