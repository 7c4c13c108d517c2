//! The edges that network policies allow are the calls that the code makes.

use std::collections::BTreeSet;

use flightbell::SERVICES;
use serde_json::Value;

use crate::rendered::{Render, renders};

/// Who calls whom at which port.
type Edges = BTreeSet<(String, String, u64)>;

fn edge(from: &str, to: &str, port: u64) -> (String, String, u64) {
    (from.to_owned(), to.to_owned(), port)
}

/// The edges that follow from what each program is told: an address of another is a call to it.
fn calls(render: &Render) -> Edges {
    let programs = render.programs();
    let port = |name: &str, port: &str| {
        programs.iter().find(|program| program.name() == name).and_then(|program| program.ports().get(port).copied())
    };
    let mut edges = Edges::new();
    for program in &programs {
        let name = program.name();
        let spec = SERVICES.iter().find(|spec| spec.name == name);
        if let Some(spec) = spec {
            let vars = program.shared.iter().chain(&program.own);
            let vars = vars.map(|(key, value)| (key.clone(), value.clone()));
            let vars: std::collections::HashMap<_, _> = vars.filter(|(_, value)| !value.starts_with("/run/")).collect();
            // Files are missing here, so it ends with problems; what it would read is known all the same.
            let settings = match (spec.configure)(&vars) {
                Ok(configured) => configured.settings().clone(),
                Err(error) => error.settings().clone(),
            };
            for callee in SERVICES.iter().filter(|callee| callee.name != name) {
                if callee.grpc_key().is_some_and(|key| settings.knows(&key)) {
                    edges.insert(edge(name, callee.name, port(callee.name, "grpc").expect("a gRPC port")));
                }
            }
            if settings.knows("KAFKA_BROKER_URL") {
                edges.insert(edge(name, "kafka", 9092));
            }
            if spec.migrations.is_some() {
                edges.insert(edge(name, "postgres", 5432));
            }
            if spec.http {
                edges.insert(edge("gateway", name, port(name, "http").expect("an HTTP port")));
            }
            for key in ["OPEN_SKY_API_URL", "TELEGRAM_API_URL"] {
                if settings.knows(key) {
                    edges.insert(edge(name, "outside", 443));
                }
            }
        }
        if name == "migrate" {
            edges.insert(edge(name, "postgres", 5432));
        } else {
            edges.insert(edge("prometheus", name, port(name, "admin").expect("an admin port")));
            edges.insert(edge(name, "otel-collector", 4317));
        }
    }
    edges
}

fn names(selector: &Value) -> Vec<String> {
    let labels = &selector["matchLabels"];
    let one = labels["app.kubernetes.io/name"].as_str().map(ToOwned::to_owned);
    let listed = selector["matchExpressions"].as_array().into_iter().flatten();
    let listed = listed.filter(|listed| listed["key"] == "app.kubernetes.io/name");
    let listed = listed.flat_map(|listed| listed["values"].as_array().expect("values"));
    one.into_iter().chain(listed.map(|name| name.as_str().expect("a name").to_owned())).collect()
}

/// What the policies let through on one side: `Ingress` at who is called, `Egress` at who calls.
fn allowed(render: &Render, side: &str) -> Edges {
    let (field, peers) = if side == "Ingress" { ("ingress", "from") } else { ("egress", "to") };
    let mut edges = Edges::new();
    for policy in render.of_kind("NetworkPolicy") {
        let selected = names(&policy["spec"]["podSelector"]);
        for rule in policy["spec"][field].as_array().into_iter().flatten() {
            for peer in rule[peers].as_array().into_iter().flatten() {
                // Neighbours in other namespaces, and pods of operators, are none of ours.
                let others = if peer["ipBlock"].is_object() {
                    vec!["outside".to_owned()]
                } else if peer["namespaceSelector"].is_object() {
                    continue;
                } else {
                    names(&peer["podSelector"])
                };
                for (one, other) in selected.iter().flat_map(|one| others.iter().map(move |other| (one, other))) {
                    for port in rule["ports"].as_array().expect("ports") {
                        let port = port["port"].as_u64().expect("a number");
                        let (from, to) = if side == "Ingress" { (other, one) } else { (one, other) };
                        edges.insert(edge(from, to, port));
                    }
                }
            }
        }
    }
    edges
}

#[test]
fn policies_allow_the_calls_of_the_code_on_both_sides_and_no_others() {
    let ours: BTreeSet<&str> = SERVICES.iter().map(|spec| spec.name).chain(["gateway", "migrate"]).collect();
    let mut seen = 0;
    for render in renders().into_iter().filter(|render| render.of_kind("NetworkPolicy").count() > 3) {
        // The entry of these is ours; another's is in another namespace.
        if !render.programs().iter().any(|program| program.name() == "gateway") {
            continue;
        }
        seen += 1;
        let calls = calls(&render);
        let concerns_ours =
            |(from, to, _): &&(String, String, u64)| ours.contains(from.as_str()) || ours.contains(to.as_str());
        let egress: Edges = allowed(&render, "Egress").iter().filter(concerns_ours).cloned().collect();
        assert_eq!(egress, calls, "{}: left what callers may, right what the code calls", render.name);
        let ingress: Edges = allowed(&render, "Ingress").iter().filter(concerns_ours).cloned().collect();
        let inside = calls.into_iter().filter(|(_, to, _)| to != "outside").collect();
        assert_eq!(ingress, inside, "{}: left what is let in, right what the code calls", render.name);
    }
    assert!(seen > 0, "no render has policies and our own gateway");
}

#[test]
fn everything_is_denied_that_no_policy_allows() {
    for render in renders().into_iter().filter(|render| render.of_kind("NetworkPolicy").count() > 3) {
        let denies_all = |policy: &Value| {
            let spec = &policy["spec"];
            spec["podSelector"].as_object().is_some_and(serde_json::Map::is_empty)
                && spec["ingress"].is_null()
                && spec["egress"].is_null()
                && spec["policyTypes"].as_array().is_some_and(|types| types.len() == 2)
        };
        assert!(render.of_kind("NetworkPolicy").any(denies_all), "{} denies nothing", render.name);
    }
}
