//! Topics and consumer groups are those of the code.

use std::collections::BTreeMap;

use events::topics::{Namespace, TopicKind};
use flightbell::{SERVICES, services};

use crate::rendered::renders;

fn topics() -> Namespace {
    services::topics(SERVICES).expect("a table without contradictions")
}

#[test]
fn topics_that_an_operator_creates_are_as_the_services_create_them() {
    let names = topics();
    let expected: BTreeMap<_, _> =
        names.topics().into_iter().map(|spec| (spec.name, (spec.retention.as_millis(), spec.kind))).collect();
    let mut seen = 0;
    for render in renders() {
        let found: Vec<_> = render.of_kind("KafkaTopic").collect();
        if found.is_empty() {
            continue;
        }
        seen += 1;
        let program = render.programs().into_iter().find(|program| program.name() == "alert-system");
        let partitions: u64 = program.expect("alert-system").shared["KAFKA_PARTITIONS"].parse().expect("a number");
        assert_eq!(found.len(), expected.len(), "{}: topics", render.name);
        for topic in found {
            let name = topic["metadata"]["name"].as_str().expect("a name");
            let (retention, kind) = expected.get(name).unwrap_or_else(|| panic!("the code knows no topic {name}"));
            let config = &topic["spec"]["config"];
            assert_eq!(config["retention.ms"].as_u64().map(u128::from), Some(*retention), "{name}");
            assert_eq!(config["cleanup.policy"], "delete", "{name}");
            // Dead letters may have fewer.
            if *kind != TopicKind::DeadLetters {
                assert_eq!(topic["spec"]["partitions"].as_u64(), Some(partitions), "{name}");
            }
        }
    }
    assert!(seen > 0, "no render has topics");
}

#[test]
fn scaling_follows_groups_that_read_their_topics_and_never_beyond_the_partitions() {
    let known = topics().group_topics();
    let mut seen = 0;
    for render in renders() {
        for scaled in render.of_kind("ScaledObject") {
            let name = scaled["metadata"]["name"].as_str().expect("a name");
            let programs = render.programs();
            let program = programs.iter().find(|program| program.name() == name).expect("what is scaled");
            assert_ne!(name, "data-collector", "one replica collects");
            let partitions: u64 = program.shared["KAFKA_PARTITIONS"].parse().expect("a number");
            assert!(scaled["spec"]["maxReplicaCount"].as_u64().expect("a limit") <= partitions, "{name}");
            assert!(program.workload["spec"]["replicas"].is_null(), "{name} has two owners of its replicas");
            for trigger in scaled["spec"]["triggers"].as_array().expect("triggers") {
                let metadata = &trigger["metadata"];
                let is_known = known
                    .iter()
                    .any(|known| metadata["topic"] == known.topic && metadata["consumerGroup"] == known.group);
                assert!(is_known, "{name}: {metadata}");
                seen += 1;
            }
        }
    }
    assert!(seen > 1, "only {seen} triggers were found");
}
