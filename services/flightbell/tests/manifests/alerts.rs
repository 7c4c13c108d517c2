//! The two forms of the alert rules are one.

use serde_json::Value;

use crate::rendered::{documents, file, renders};

#[test]
fn the_rules_of_prometheus_and_of_its_operator_are_the_same_groups() {
    let plain = documents(&file("k8s/components/prometheus/rules.yaml")).remove(0);
    assert!(plain["groups"].as_array().is_some_and(|groups| groups.len() > 1), "{plain}");
    let mut seen = 0;
    for render in renders() {
        for rule in render.of_kind("PrometheusRule") {
            assert_eq!(rule["spec"]["groups"], plain["groups"], "{}", render.name);
            seen += 1;
        }
    }
    assert!(seen > 0, "no render has a PrometheusRule");
}

#[test]
fn every_alert_has_a_section_in_the_runbook_that_it_names() {
    let runbook = file("docs/alerts.md");
    let anchors: Vec<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## ").or(line.strip_prefix("### ")))
        .map(|title| title.trim().to_lowercase().replace(' ', "-").replace('`', ""))
        .collect();
    let rules = documents(&file("k8s/components/prometheus/rules.yaml")).remove(0);
    let groups = rules["groups"].as_array().expect("groups");
    let alerts = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    let alerts: Vec<&Value> = alerts.filter(|rule| rule["alert"].is_string()).collect();
    assert!(alerts.len() > 8, "only {} alerts", alerts.len());
    for alert in alerts {
        let link = alert["annotations"]["runbook_url"].as_str().unwrap_or_else(|| panic!("{alert} has no runbook"));
        let path = link.strip_prefix("{{ $externalLabels.runbooks }}docs/alerts.md#");
        let anchor = path.unwrap_or_else(|| panic!("{link} is not in the repository"));
        assert!(anchors.iter().any(|known| known == anchor), "docs/alerts.md has no section {anchor}");
    }
}
