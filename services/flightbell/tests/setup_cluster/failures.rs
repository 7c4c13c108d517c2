//! What fails is told with events and logs, and the next run goes on.

use crate::stage::Stage;

/// The release that runs after `up`, as the names of jobs have it.
fn tag(stage: &Stage) -> String {
    let images = stage.read("stage/images");
    images.lines().next().and_then(|image| image.rsplit(':').next()).unwrap().replace('.', "-")
}

#[test]
fn a_cluster_that_cannot_be_made_is_made_anew_the_next_time() {
    let stage = Stage::new();
    stage.write("stage/kind-create-fails", "");
    let run = stage.fail(&["up"], &["port is already allocated", "kind-config.yaml says how"]);
    assert!(!run.called("docker build"));
    stage.remove("stage/kind-create-fails");
    let run = stage.succeed(&["up"]);
    run.in_order(&["kind delete cluster --name flightbell", "kind create cluster --name flightbell"]);
    assert!(!stage.succeed(&["up"]).called("kind create"));
}

#[test]
fn a_cluster_that_was_completed_by_other_means_is_not_deleted() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    stage.write("home/.local/share/flightbell/cluster/being-made", "");
    let run = stage.fail(&["up"], &["was completed by other means", "being-made", "./setup_cluster.sh down"]);
    assert!(!run.called("kind delete"));
}

#[test]
fn a_kind_that_cannot_tell_its_clusters_is_not_taken_for_one_without() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    stage.write("stage/kind-is-blind", "");
    for command in ["up", "down"] {
        let run = stage.fail(&[command], &["cannot connect to the engine", "kind does not tell which clusters"]);
        assert!(!run.called("kind create") && !run.called("kind delete"));
    }
}

#[test]
fn an_interrupted_run_says_how_to_go_on_and_can_be_repeated() {
    let stage = Stage::new();
    stage.write("stage/interrupt", "");
    let run = stage.run(&["up"]);
    assert_eq!(run.code, 130, "{}", run.said);
    assert!(run.said.contains("run the same command again to go on"), "{}", run.said);
    assert!(!run.called("docker build"), "{:?}", run.calls);
    stage.remove("stage/interrupt");
    stage.succeed(&["up"]).in_order(&["kind delete cluster", "kind create cluster"]);
}

#[test]
fn a_cluster_that_was_stopped_is_left_alone_and_the_ways_on_are_told() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    stage.write("stage/cluster-is-stopped", "");
    let run = stage.fail(&["up"], &["docker start flightbell-control-plane", "./setup_cluster.sh down"]);
    run.changed_nothing();
}

#[test]
fn an_image_that_cannot_be_built_stops_the_run_and_the_next_one_goes_on() {
    let stage = Stage::new();
    stage.write("stage/build-fails", "");
    let run = stage.fail(&["up"], &["could not compile", "the images could not be built"]);
    assert!(!run.called("applied"), "{:?}", run.calls_of("applied"));
    stage.remove("stage/build-fails");
    assert!(!stage.succeed(&["up"]).called("kind create"));
}

#[test]
fn pods_that_do_not_get_ready_are_told_with_events_and_logs_of_both_lives() {
    let stage = Stage::new();
    stage.write("stage/fails-rollout", "deployment/notifier\n");
    let run = stage.fail(
        &["up"],
        &[
            "deployment notifier is not ready",
            "BackOff",
            "a line of the log of",
            "before its restart",
            "./setup_cluster.sh up",
        ],
    );
    let pod = "notifier-1";
    run.in_order(&[
        &format!("kubectl --context kind-flightbell --namespace flightbell describe pod/{pod}"),
        &format!("kubectl --context kind-flightbell --namespace flightbell logs {pod}"),
        &format!(
            "kubectl --context kind-flightbell --namespace flightbell logs {pod} --all-containers --tail=30 --previous"
        ),
    ]);
    assert!(!run.calls.iter().any(|call| call.contains("https://localhost")), "the entry is not called");
    stage.remove("stage/fails-rollout");
    let run = stage.succeed(&["up"]);
    assert!(!run.called("kind create") && !run.called("docker build") && !run.called("applied Secret"));
}

#[test]
fn a_migration_that_fails_leaves_the_services_as_they_are_and_is_made_anew_the_next_time() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let before = stage.read("stage/objects/Deployment/user-manager");
    stage.write("stage/fails-job", "migrate-0-0-9\n");
    let run = stage.fail(
        &["deploy", "--overlay", "kind", "--tag", "0.0.9"],
        &["the job migrate-0-0-9 failed", "a line of the log of"],
    );
    assert!(!run.called("applied Deployment"), "{:?}", run.calls_of("applied"));
    assert_eq!(stage.read("stage/objects/Deployment/user-manager"), before);
    stage.remove("stage/fails-job");
    let run = stage.succeed(&["deploy", "--overlay", "kind", "--tag", "0.0.9"]);
    run.in_order(&[
        "kubectl --context kind-flightbell --namespace flightbell delete job migrate-0-0-9",
        "applied Job/migrate-0-0-9",
        "applied Deployment/user-manager",
    ]);
}

#[test]
fn a_job_that_succeeded_runs_again_since_databases_may_have_been_restored_or_passed_over_meanwhile() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let run = stage.succeed(&["up"]);
    for job in [format!("databases-{}", tag(&stage)), format!("migrate-{}", tag(&stage))] {
        let delete = format!("kubectl --context kind-flightbell --namespace flightbell delete job {job}");
        run.in_order(&[&delete, &format!("applied Job/{job}")]);
    }
}

#[test]
fn a_job_that_says_something_else_than_before_is_made_anew() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let job = format!("migrate-{}", tag(&stage));
    stage.write("stage/fails-change", &format!("{job}\n"));
    let run = stage.succeed(&["up"]);
    let delete = format!("kubectl --context kind-flightbell --namespace flightbell delete job {job}");
    run.in_order(&[&delete, &format!("applied Job/{job}"), "applied Deployment/user-manager"]);
}

#[test]
fn what_the_cluster_refuses_is_shown() {
    let stage = Stage::new();
    stage.write("stage/fails-apply", "StatefulSet/kafka\n");
    stage.fail(&["up"], &["StatefulSet kafka is refused", "the cluster refuses what the overlay kind says"]);
    stage.remove("stage/fails-apply");
    stage.succeed(&["up"]);
}

#[test]
fn an_entry_that_answers_wrongly_fails_the_run_with_its_answer() {
    let stage = Stage::new();
    stage.write("stage/entry-answers", "500");
    stage.fail(&["up"], &["/user-manager/users: 500 in place of 201", "it is broken"]);
    stage.remove("stage/entry-answers");
    stage.succeed(&["up"]);
}
