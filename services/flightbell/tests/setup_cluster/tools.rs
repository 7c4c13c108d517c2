//! What must be on the machine: told at once, with the way to get it, before anything is changed.

use crate::stage::Stage;

#[test]
fn every_missing_tool_is_named_at_once_with_the_command_that_gets_it() {
    let stage = Stage::new();
    for tool in ["kind", "kubectl", "curl", "docker", "base64"] {
        stage.remove(&format!("bin/{tool}"));
    }
    let run = stage.fail(
        &["up"],
        &[
            "nothing was changed",
            "kind is missing: ",
            "kubectl is missing: ",
            "curl is missing: ",
            "base64 is missing: ",
            "a container engine is missing: ",
            "install",
        ],
    );
    assert_eq!(run.calls, [""; 0]);
}

#[test]
fn each_missing_tool_alone_stops_the_run_before_anything_is_changed() {
    for (tool, words) in [
        ("kind", "kind is missing"),
        ("kubectl", "kubectl is missing"),
        ("curl", "curl is missing"),
        ("docker", "a container engine is missing"),
    ] {
        let stage = Stage::new();
        stage.remove(&format!("bin/{tool}"));
        stage.fail(&["up"], &[words]).changed_nothing();
        assert!(!stage.path("home/.local").exists(), "without {tool}");
    }
}

#[test]
fn tools_that_are_too_old_or_too_new_are_named_with_their_versions() {
    let stage = Stage::new();
    stage.write("stage/kind-version", "0.31.9");
    stage.write("stage/kubectl-version", "1.34.2");
    stage.write("stage/curl-version", "7.70.0");
    stage.fail(&["up"], &["kind 0.31 is too old", "kubectl 1.34 is more", "curl 7.70 is too old"]).changed_nothing();
    stage.write("stage/kind-version", "0.32.0");
    stage.write("stage/curl-version", "7.71.0");
    stage.write("stage/kubectl-version", "1.38.0");
    stage.fail(&["up"], &["kubectl 1.38 is more than one minor version away from the cluster's 1.36"]);
    for next_to_it in ["1.35.0", "1.37.3"] {
        stage.write("stage/kubectl-version", next_to_it);
        stage.succeed(&["up"]);
    }
}

#[test]
fn an_engine_that_does_not_run_is_told_apart_from_one_that_is_missing() {
    let stage = Stage::new();
    stage.write("stage/no-engine", "");
    stage.fail(&["up"], &["docker is installed, but its engine does not answer: start"]).changed_nothing();
}

#[test]
fn deploy_needs_neither_kind_nor_an_engine() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    stage.remove("bin/kind");
    stage.remove("bin/docker");
    stage.succeed(&["deploy", "--overlay", "kind"]);
    stage.remove("bin/kubectl");
    stage.fail(&["deploy", "--overlay", "kind"], &["kubectl is missing"]);
}

#[test]
fn wrong_usage_is_told_with_the_usage() {
    let stage = Stage::new();
    for arguments in [
        &["rise"][..],
        &["up", "--overlay"],
        &["up", "--context", "other"],
        &["deploy", "--timeout", "soon"],
        &["deploy", "--entry", "nowhere"],
        &["deploy", "--rotate", "databases"],
        &["secrets", "--rotate", "everything"],
        &["up", "now"],
    ] {
        let run = stage.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.said);
        assert!(run.said.contains("./setup_cluster.sh deploy"), "{}", run.said);
        run.changed_nothing();
    }
    assert!(stage.succeed(&["help"]).said.contains("--overlay NAME|PATH"));
}
