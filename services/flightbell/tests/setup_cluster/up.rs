//! The whole way to a running cluster on this machine, the first time and again.

use crate::stage::Stage;

#[test]
fn the_first_run_goes_from_tools_to_a_call_through_https_in_order() {
    let stage = Stage::new();
    let run = stage.succeed(&["up"]);
    run.in_order(&[
        "kind version",
        "docker ps",
        "kubectl kustomize",
        "kind create cluster --name flightbell --config",
        "docker build --file",
        "kind load docker-image docker.io/flightbell/user-manager:0.1.0.",
        "curl --fail --silent --show-error --location",
        "applied Deployment/envoy-gateway",
        "kubectl --context kind-flightbell --namespace envoy-gateway-system rollout status deployment/envoy-gateway",
        "applied Namespace/flightbell",
        "applied Secret/postgres",
        "applied Secret/notifier",
        "docker run --rm --network none --security-opt label=disable --volume",
        "applied Secret/flightbell-tls",
        "applied StatefulSet/kafka",
        "kubectl --context kind-flightbell --namespace flightbell rollout status statefulset/postgres",
        "applied Job/databases-0-1-0-",
        "kubectl --context kind-flightbell --namespace flightbell wait job/databases-0-1-0-",
        "applied Job/migrate-0-1-0-",
        "kubectl --context kind-flightbell --namespace flightbell wait job/migrate-0-1-0-",
        "applied Deployment/user-manager",
        "kubectl --context kind-flightbell --namespace flightbell rollout status deployment/user-manager",
        "kubectl --context kind-flightbell --namespace flightbell wait gateway.gateway.networking.k8s.io/flightbell",
        "curl",
    ]);
    assert_eq!(run.calls_of("docker build").len(), 5, "{:?}", run.calls);
    assert!(run.said.contains("POST /user-manager/users: 201"), "{}", run.said);
    assert!(run.said.contains("./setup_cluster.sh down"), "{}", run.said);
    assert!(run.said.contains("only this machine reaches it"), "{}", run.said);
}

#[test]
fn every_call_of_the_api_trusts_the_authority_that_was_made_and_leaves_nobody_behind() {
    let stage = Stage::new();
    let run = stage.succeed(&["up"]);
    let calls: Vec<_> = run.calls.iter().filter(|call| call.contains("https://localhost/")).collect();
    assert_eq!(calls.len(), 5, "{calls:?}");
    let authority = stage.path("home/.local/share/flightbell/cluster/tls/ca.pem");
    assert!(calls.iter().all(|call| call.contains(&format!("--cacert {}", authority.display()))), "{calls:?}");
    for (call, method) in calls[2..].iter().zip(["POST", "GET", "DELETE"]) {
        assert!(call.contains(&format!("--request {method} ")), "{call}");
    }
    let key =
        |call: &str| call.split("Idempotency-Key: ").nth(1).map(|rest| rest.split(' ').next().unwrap().to_owned());
    assert_ne!(key(calls[2]), key(calls[4]), "one key for two requests would be refused");
}

#[test]
fn up_never_touches_another_cluster() {
    let stage = Stage::new();
    stage.write("stage/current-context", "production");
    let run = stage.succeed(&["up"]);
    for call in run.calls_of("kubectl") {
        let is_local = ["kubectl version", "kubectl kustomize", "kubectl config"].iter().any(|o| call.starts_with(o));
        assert!(is_local || call.starts_with("kubectl --context kind-flightbell "), "{call}");
    }
}

#[test]
fn the_second_run_makes_builds_loads_and_overwrites_nothing() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let before = stage.secrets();
    let patches = stage.read("stage/kustomization.yaml");
    let run = stage.succeed(&["up"]);
    for words in ["kind create", "docker build", "kind load", "applied Secret", "applied Deployment/envoy-gateway"] {
        assert!(!run.called(words), "{words} again: {:?}", run.calls_of(words));
    }
    // Jobs run again; where all is as they left it they change nothing.
    let deletes = |call: &String| call.contains(" delete ") && !call.contains(" delete job ");
    assert!(!run.calls.iter().any(|call| deletes(call) || call.contains("github.com")));
    assert_eq!(stage.secrets(), before);
    assert_eq!(stage.read("stage/kustomization.yaml"), patches, "nothing is rolled out again");
}

#[test]
fn a_changed_program_is_built_loaded_and_rolled_out_under_a_new_tag() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let before = stage.read("stage/objects/Deployment/user-manager");
    stage.write("checkout/crates/program.rs", "two");
    let run = stage.succeed(&["up"]);
    assert_eq!(run.calls_of("docker build").len(), 5);
    assert_eq!(run.calls_of("kind load").len(), 1);
    assert_ne!(stage.read("stage/objects/Deployment/user-manager"), before);
    assert!(!run.called("kind create") && !run.called("applied Secret"), "{:?}", run.calls);
}

#[test]
fn a_changed_test_builds_nothing() {
    let stage = Stage::new();
    std::fs::create_dir_all(stage.path("checkout/crates/a/tests")).unwrap();
    stage.succeed(&["up"]);
    stage.write("checkout/crates/a/tests/it.rs", "fn changed() {}");
    let run = stage.succeed(&["up"]);
    assert!(!run.called("docker build"), "{:?}", run.calls_of("docker build"));
}

#[test]
fn only_images_that_are_missing_are_built_and_loaded() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let images = stage.read("stage/images");
    let all: Vec<_> = images.lines().collect();
    stage.write("stage/images", &format!("{}\n", all[1..].join("\n")));
    stage.write("stage/node-images", &format!("{}\n", all[..4].join("\n")));
    let run = stage.succeed(&["up"]);
    assert_eq!(run.calls_of("docker build").len(), 1);
    assert_eq!(run.calls_of("kind load"), [format!("kind load docker-image {} --name flightbell", all[4])]);
}

#[test]
fn podman_takes_the_place_of_docker_where_that_is_missing() {
    let stage = Stage::new();
    std::fs::rename(stage.path("bin/docker"), stage.path("bin/podman")).unwrap();
    let run = stage.succeed(&["up"]);
    assert_eq!(run.calls_of("podman build").len(), 5);
    run.in_order(&["podman save --multi-image-archive", "kind load image-archive", "podman run --rm"]);
    let again = stage.succeed(&["up"]);
    assert!(!again.called("podman build") && !again.called("kind load"), "{:?}", again.calls);
}

#[test]
fn a_manifest_at_hand_is_taken_in_place_of_a_download_and_held_against_its_checksum() {
    let stage = Stage::new();
    stage.write("checkout/envoy.yaml", "kind: Deployment\nmetadata:\n  name: envoy-gateway\n");
    let manifest = stage.path("checkout/envoy.yaml").display().to_string();
    let at_hand = ("ENVOY_GATEWAY_MANIFEST", manifest.as_str());
    let run = stage.run_with(&["up"], &[at_hand, ("ENVOY_GATEWAY_SHA256", "0")]);
    assert!(run.code == 1 && run.said.contains("does not have the checksum"), "{}", run.said);
    assert!(!run.called("applied Deployment/envoy-gateway"));
    let run = stage.run_with(&["up"], &[at_hand]);
    assert_eq!(run.code, 0, "{}", run.said);
    assert!(!run.calls.iter().any(|call| call.contains("github.com")), "{:?}", run.calls);
    assert!(run.called("applied Deployment/envoy-gateway"));
}

#[test]
fn down_deletes_the_cluster_and_keeps_the_authority() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let authority = stage.read("home/.local/share/flightbell/cluster/tls/ca.pem");
    let run = stage.succeed(&["down"]);
    assert_eq!(run.calls_of("kind delete"), ["kind delete cluster --name flightbell"]);
    assert!(run.said.contains("stays in"), "{}", run.said);
    assert_eq!(stage.read("home/.local/share/flightbell/cluster/tls/ca.pem"), authority);
    let run = stage.succeed(&["down"]);
    assert!(run.said.contains("there is no cluster"), "{}", run.said);
    assert!(!run.called("kind delete"));
    stage.succeed(&["up"]);
    assert_eq!(stage.secret("flightbell-tls", "ca.crt").unwrap(), authority, "nobody has to trust a new one");
}
