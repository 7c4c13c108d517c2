//! The second half alone: on the cluster that the kubeconfig names, with a chosen overlay.

use crate::stage::Stage;

/// A machine on which nothing was set up, whose kubeconfig names a cluster.
fn stage_with_cluster(name: &str) -> Stage {
    let stage = Stage::new();
    stage.write("stage/current-context", name);
    stage
}

/// An overlay without servers of its own.
fn without_postgres(stage: &Stage) {
    stage.replace("stage/rendered.yaml", "secretName: postgres", "emptyDir: {}");
}

#[test]
fn it_changes_the_current_cluster_and_says_which_one_that_is() {
    let stage = stage_with_cluster("production");
    let run = stage.succeed(&["deploy", "--overlay", "kind", "--tag", "1.2.3", "--entry", "10.0.0.1:443"]);
    assert!(run.said.contains("cluster production") && run.said.contains("https://127.0.0.1:6443"), "{}", run.said);
    assert!(!run.called("kind") && !run.called("docker build"), "{:?}", run.calls);
    for call in run.calls_of("kubectl") {
        let is_local = ["kubectl version", "kubectl kustomize", "kubectl config"].iter().any(|o| call.starts_with(o));
        assert!(is_local || call.starts_with("kubectl --context production "), "{call}");
    }
    assert!(run.called("applied Job/migrate-1-2-3"), "{:?}", run.calls_of("applied Job"));
    let called: Vec<_> =
        run.calls.iter().filter(|call| call.contains("--connect-to localhost:443:10.0.0.1:443")).collect();
    assert_eq!(called.len(), 5, "{:?}", run.calls_of("curl"));
}

#[test]
fn without_a_tag_the_overlay_says_which_release_runs() {
    let stage = stage_with_cluster("production");
    let run = stage.succeed(&["deploy", "--overlay", "kind"]);
    assert!(run.called("applied Job/migrate-0-1-0"));
    assert!(run.said.contains("say where the entry is"), "{}", run.said);
    assert!(!run.calls.iter().any(|call| call.contains("https://localhost")), "{:?}", run.calls_of("curl"));
}

#[test]
fn changing_secrets_keeps_the_release_and_the_overlay_that_run() {
    let stage = stage_with_cluster("production");
    let mine = stage.path("checkout/mine");
    std::fs::create_dir(&mine).unwrap();
    stage.write("checkout/mine/kustomization.yaml", "resources: []\n");
    stage.succeed(&["deploy", "--overlay", &mine.display().to_string(), "--tag", "1.2.3"]);
    let run = stage.succeed(&["secrets"]);
    assert!(run.calls.iter().any(|call| *call == format!("kubectl kustomize {}", mine.display())), "{:?}", run.calls);
    assert!(run.called("applied Job/migrate-1-2-3"), "{:?}", run.calls);
    assert!(stage.read("stage/objects/Deployment/notifier").contains("notifier:1.2.3"));
}

#[test]
fn without_postgresql_of_its_own_every_missing_address_is_named() {
    let stage = stage_with_cluster("production");
    without_postgres(&stage);
    stage.write("checkout/.env", "TELEGRAM_BOT_TOKEN=1:a\nUSER_MANAGER_DATABASE_URL=postgres://a:b@c/d\n");
    let words = "Missing: DATA_COLLECTOR_DATABASE_URL ALERT_SYSTEM_DATABASE_URL NOTIFIER_DATABASE_URL";
    stage.fail(&["deploy", "--overlay", "kind"], &[words]).changed_nothing();
}

#[test]
fn addresses_of_outside_servers_come_from_env_and_are_kept() {
    let stage = stage_with_cluster("production");
    without_postgres(&stage);
    let address = |role: &str| format!("postgres://{role}:p%40ss@db.example.org/{role}?sslmode=verify-full&a=b");
    let env: String = ["USER_MANAGER", "DATA_COLLECTOR", "ALERT_SYSTEM", "NOTIFIER"]
        .map(|service| format!("{service}_DATABASE_URL='{}'\n", address(&service.to_lowercase())))
        .concat();
    stage.write("checkout/.env", &format!("TELEGRAM_BOT_TOKEN=1:a\n{env}"));
    stage.succeed(&["deploy", "--overlay", "kind"]);
    assert_eq!(stage.secret("alert-system", "database-url"), Some(address("alert_system")));
    assert_eq!(stage.secret("migrate", "notifier-database-url"), Some(address("notifier")));
    assert!(!stage.path("stage/objects/Secret/postgres").exists());
    stage.remove("checkout/.env");
    let run = stage.succeed(&["deploy", "--overlay", "kind"]);
    assert!(!run.called("applied Secret"), "{:?}", run.calls_of("applied"));
}

#[test]
fn replicas_that_the_overlay_leaves_to_an_autoscaler_stay_as_they_are() {
    let stage = stage_with_cluster("production");
    let deploy = ["deploy", "--overlay", "kind"];
    let run = stage.succeed(&deploy);
    assert!(!run.called("handed over"), "nothing runs yet");
    assert!(!stage.succeed(&deploy).called("handed over"), "the overlay says the numbers");
    let notifier = "  name: notifier\n  namespace: flightbell\nspec:\n";
    stage.replace("stage/rendered.yaml", &format!("{notifier}  replicas: 2\n"), notifier);
    let run = stage.succeed(&deploy);
    assert_eq!(run.calls_of("handed over"), ["handed over Deployment/notifier with 2"]);
    run.in_order(&["handed over Deployment/notifier", "applied Deployment/notifier"]);
}

#[test]
fn an_overlay_that_does_not_build_says_why_and_changes_nothing() {
    let stage = stage_with_cluster("production");
    stage.write("stage/kustomize-says", "error: nobody has to sign in yet: switch on the line open-entry\n");
    let run = stage.fail(
        &["deploy", "--overlay", "kind"],
        &["switch on the line open-entry", "cannot be built", "nothing was changed"],
    );
    run.changed_nothing();
    stage
        .fail(&["deploy", "--overlay", "nonsense"], &["there is no overlay nonsense", "Overlays: kind"])
        .changed_nothing();
}

#[test]
fn a_secret_that_nobody_makes_is_asked_for() {
    let stage = stage_with_cluster("production");
    stage.replace("stage/rendered.yaml", "secretName: user-manager", "secretName: made-by-hand");
    stage
        .fail(&["deploy", "--overlay", "kind"], &["needs the Secret made-by-hand in the namespace flightbell"])
        .changed_nothing();
}

#[test]
fn a_tag_that_cannot_be_part_of_a_name_is_refused() {
    let stage = stage_with_cluster("production");
    for tag in ["V1", "1_2", "-1", "1.", "a-tag-that-is-far-too-long-for-the-name-of-a-pod"] {
        stage
            .fail(&["deploy", "--overlay", "kind", "--tag", tag], &["cannot be part of a Job's name"])
            .changed_nothing();
    }
}

#[test]
fn a_program_that_can_make_certificates_must_be_there_before_anything_is_changed() {
    let stage = stage_with_cluster("production");
    stage.remove("checkout/target/debug/flightbell");
    stage
        .fail(&["deploy", "--overlay", "kind"], &["the program flightbell is not there", "FLIGHTBELL=<path>"])
        .changed_nothing();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/setup_cluster/stand_ins/flightbell");
    let run = stage.run_with(&["deploy", "--overlay", "kind", "--name", "flightbell.test"], &[("FLIGHTBELL", program)]);
    assert_eq!(run.code, 0, "{}", run.said);
    let calls = run.calls_of("flightbell certs --dir");
    assert!(calls.len() == 1 && calls[0].contains("--name localhost --name 127.0.0.1 --name ::1"), "{calls:?}");
    assert!(calls[0].ends_with("--name flightbell.test"), "{calls:?}");
    let run = stage.run_with(&["secrets"], &[("FLIGHTBELL", program)]);
    assert_eq!(run.calls_of("flightbell certs --dir"), calls, "the names stay");
}

#[test]
fn an_engine_that_cannot_run_the_image_gives_way_to_a_program_that_was_built() {
    let stage = stage_with_cluster("production");
    stage.write("stage/images", "docker.io/flightbell/flightbell:0.1.0\n");
    stage.write("stage/images-do-not-run", "");
    let run = stage.succeed(&["deploy", "--overlay", "kind"]);
    assert!(!run.calls.iter().any(|call| call.starts_with("docker run") && call.contains("--volume")));
    assert_eq!(run.calls_of("flightbell certs --dir").len(), 1);
}

#[test]
fn a_cluster_to_which_nothing_was_deployed_wants_the_overlay_named() {
    let stage = stage_with_cluster("production");
    stage.fail(&["deploy"], &["name what is to be: --overlay production"]).changed_nothing();
    stage.succeed(&["deploy", "--overlay", "kind"]);
    stage.succeed(&["deploy"]);
}

#[test]
fn without_a_cluster_the_ways_to_one_are_told() {
    let stage = Stage::new();
    stage.remove("stage/current-context");
    stage
        .fail(&["deploy", "--overlay", "kind"], &["names no current cluster", "./setup_cluster.sh up"])
        .changed_nothing();
}

#[test]
fn status_and_logs_tell_of_what_runs() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let run = stage.succeed(&["status"]);
    run.changed_nothing();
    assert!(run.said.contains("cluster kind-flightbell") && run.said.contains("certificate of the entry"));
    let run = stage.succeed(&["logs", "notifier"]);
    assert!(run.calls.iter().any(|call| call.contains("logs --selector=app.kubernetes.io/name=notifier")));
    let run = stage.succeed(&["logs"]);
    assert!(run.calls.iter().any(|call| call.contains("logs --selector=app.kubernetes.io/part-of=flightbell")));
}

#[test]
fn open_forwards_both_dashboards_to_this_machine_only() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let run = stage.succeed(&["open"]);
    let forwards: Vec<_> = run.calls.iter().filter(|call| call.contains("port-forward")).collect();
    assert_eq!(forwards.len(), 2, "{:?}", run.calls);
    assert!(forwards.iter().all(|call| call.contains("--address 127.0.0.1")), "{forwards:?}");
    assert!(forwards.iter().any(|call| call.ends_with("service/prometheus 9090:9090")), "{forwards:?}");
}
