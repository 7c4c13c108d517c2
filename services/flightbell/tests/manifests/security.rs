//! What keeps pods apart from nodes, and exceptions from rules.

use crate::rendered::renders;

#[test]
fn every_namespace_enforces_the_restricted_pod_security_standard() {
    for render in renders() {
        assert!(render.of_kind("Namespace").count() > 0, "{} has no Namespace", render.name);
        for namespace in render.of_kind("Namespace") {
            for mode in ["enforce", "audit", "warn"] {
                let label = &namespace["metadata"]["labels"][format!("pod-security.kubernetes.io/{mode}")];
                assert_eq!(label, "restricted", "{}: {mode}", render.name);
            }
        }
    }
}

#[test]
fn every_exception_from_the_linter_is_of_one_check_and_has_a_reason() {
    let mut seen = 0;
    for render in renders() {
        for object in &render.objects {
            for (key, reason) in object["metadata"]["annotations"].as_object().into_iter().flatten() {
                assert_ne!(key, "kube-linter.io/ignore-all", "{}", object["metadata"]["name"]);
                if key.starts_with("ignore-check.kube-linter.io/") {
                    assert!(reason.as_str().is_some_and(|reason| reason.len() > 10), "{key}: {reason}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 3, "only {seen} exceptions were found");
}
