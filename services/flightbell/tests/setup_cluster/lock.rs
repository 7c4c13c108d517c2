//! Two runs at once, and what a run that was killed leaves behind.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use crate::stage::{LOCK, Stage};

/// The number of a process that is no more.
fn ended_process() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    let process = child.id();
    child.wait().unwrap();
    process
}

fn lock_of(stage: &Stage, process: u32) {
    fs::create_dir_all(stage.path(LOCK)).unwrap();
    stage.write(&format!("{LOCK}/pid"), &format!("{process}\n"));
}

#[test]
fn while_one_run_changes_a_cluster_another_ends_at_once_and_names_it() {
    let stage = Stage::new();
    // The first one stays in `docker build` until it may go on.
    stage.write("stage/build-waits", "");
    let mut command = stage.command("setup_cluster.sh", &["up"]);
    let mut first = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !stage.path("stage/build-is-waiting").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the first run has ended");
        std::thread::yield_now();
    }
    let work = fs::read_dir(stage.path("tmp")).unwrap().next().unwrap().unwrap().path();
    for arguments in [&["up"][..], &["deploy"], &["secrets"], &["down"]] {
        let mut second = stage.command("setup_cluster.sh", arguments);
        let output = second.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        let sentence = format!("the process {} is another run of setup_cluster.sh", first.id());
        assert!(said.contains(&sentence) && said.contains("nothing was changed"), "{arguments:?}: {said}");
    }
    let mut status = stage.command("setup_cluster.sh", &["status"]);
    assert!(status.output().unwrap().status.success(), "looking is always allowed");
    assert!(work.exists(), "nobody removes the folder of a run that goes on");
    stage.remove("stage/build-waits");
    assert!(first.wait().unwrap().success());
    assert!(!stage.path(LOCK).exists());
    stage.succeed(&["up"]);
}

#[test]
fn another_cluster_is_another_lock() {
    let stage = Stage::new();
    lock_of(&stage, std::process::id());
    stage.write("stage/current-context", "production");
    stage.succeed(&["deploy", "--overlay", "kind"]);
    stage.fail(&["up"], &[&format!("the process {} is another run", std::process::id())]).changed_nothing();
}

#[test]
fn the_lock_of_a_run_that_was_killed_is_taken_over_and_every_end_gives_it_back() {
    let stage = Stage::new();
    lock_of(&stage, ended_process());
    let run = stage.succeed(&["up"]);
    assert!(run.said.contains("did not come to its end"), "{}", run.said);
    assert!(!stage.path(LOCK).exists());
    // It was killed before it wrote its number.
    fs::create_dir(stage.path(LOCK)).unwrap();
    stage.succeed(&["up"]);
    stage.write("stage/fails-apply", "StatefulSet/kafka\n");
    stage.fail(&["up"], &["StatefulSet kafka is refused"]);
    assert!(!stage.path(LOCK).exists());
}

#[test]
fn a_lock_whose_taker_was_killed_too_is_taken_over_again_and_that_of_a_taker_that_goes_on_is_not() {
    let stage = Stage::new();
    let (owner, taker) = (ended_process(), ended_process());
    lock_of(&stage, owner);
    symlink(taker.to_string(), stage.path(&format!("{LOCK}/after-{owner}"))).unwrap();
    let run = stage.succeed(&["up"]);
    assert!(run.said.contains(&format!("process {taker}, did not come to its end")), "{}", run.said);
    assert!(!stage.path(LOCK).exists());
    lock_of(&stage, owner);
    symlink(std::process::id().to_string(), stage.path(&format!("{LOCK}/after-{owner}"))).unwrap();
    stage.fail(&["up"], &[&format!("the process {} is another run", std::process::id())]).changed_nothing();
    assert!(stage.path(LOCK).exists(), "nobody removes the lock of a run that goes on");
}

#[test]
fn work_folders_of_runs_that_were_killed_are_removed_and_no_others() {
    let stage = Stage::new();
    let left = format!("tmp/flightbell.{}.abcdef", ended_process());
    let others = [format!("tmp/flightbell.{}.abcdef", std::process::id()), "tmp/flightbell.abcdef".to_owned()];
    for folder in others.iter().chain([&left]) {
        fs::create_dir(stage.path(folder)).unwrap();
        stage.write(&format!("{folder}/secret"), "hush");
    }
    let elsewhere = stage.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let link = stage.path(&format!("tmp/flightbell.{}.ghijkl", ended_process()));
    symlink(&elsewhere, &link).unwrap();
    let status = stage.command("setup_cluster.sh", &["status"]).output().unwrap().status;
    assert!(status.success());
    assert!(!stage.path(&left).exists());
    assert!(others.iter().all(|folder| stage.path(folder).join("secret").exists()));
    assert!(elsewhere.exists() && link.is_symlink());
}
