use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    program::{self, PATIENCE},
    town::{World, client, folder, is_settled, places, register, up},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_command_watches_an_airport_and_survives_its_own_death() {
    let (world, parent) = (World::new().await, folder());
    let data = parent.path().join("data");
    let (program, base) = up(&world, &data, &[]).await;
    let client = client(&data.join("tls/cert.pem")).await;
    world.aircraft(8);
    let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
    register(&client, &base, "ada@example.org", 7, interest).await;
    world.texts(|texts| texts.len() == 1).await;
    let addresses = local_servers::Addresses::read(&data).expect("readable").expect("it runs");
    is_settled(&addresses.databases.notifier).await;

    // Killed, it leaves its servers behind; the next start stops them and goes on where it was.
    program.kill().await;
    world.aircraft(3);
    let (program, base) = up(&world, &data, &[]).await;
    let texts = world.texts(|texts| texts.len() == 2).await;
    assert!(texts[1].contains("is back within the thresholds"), "{texts:?}");
    let watched: Value = client
        .get(format!("{base}/data-collector/interests/ada@example.org"))
        .send()
        .await
        .expect("answered")
        .json()
        .await
        .expect("JSON");
    assert_eq!(watched["interests"][0]["airport_code"], "LFPG");

    // And after a clean stop nothing is told twice.
    program.stop().await;
    assert!(local_servers::leftovers::running(&data).await.expect("looked").is_empty());
    let (program, _) = up(&world, &data, &[]).await;
    world.aircraft(9);
    let texts = world.texts(|texts| texts.len() >= 3).await;
    assert_eq!(texts.len(), 3, "{texts:#?}");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_on_the_same_folder_names_folder_and_pid_and_touches_nothing() {
    let (world, parent) = (World::new().await, folder());
    let data = parent.path().join("data");
    let (mut first, base) = up(&world, &data, &[]).await;
    let name = data.display().to_string();
    let arguments = ["up", "--data-dir", name.as_str(), "--listen", "127.0.0.1:0"];
    let mut environment = world.environment();
    environment.push(("XDG_CACHE_HOME", places().cache_home.display().to_string()));
    let mut second = program::start("flightbell", &arguments, &environment).await;
    assert_eq!(second.code().await, 1);
    let log = second.log();
    assert!(log.contains(&name) && log.contains(&format!("process {}", first.pid())), "{log}");
    assert!(!first.is_over());
    let ping = client(&data.join("tls/cert.pem")).await.get(format!("{base}/user-manager/ping")).send().await;
    assert_eq!(ping.expect("answered").status(), 200);

    // `doctor` and `dlq` find the running one by its folder.
    let mut doctor = program::start("flightbell", &["doctor", "--data-dir", &name], &environment).await;
    let code = doctor.code().await;
    let said = doctor.out();
    assert_eq!(code, 0, "{said}\n{}", doctor.log());
    assert!(said.contains("runs as process") && said.contains("every service is ready"), "{said}");
    let mut dlq = program::start("flightbell", &["dlq", "list", "--data-dir", &name], &environment).await;
    assert_eq!(dlq.code().await, 0, "{}", dlq.log());
    assert!(dlq.out().contains("to-notifier: 0 dead letters"), "{}", dlq.out());
    let mut accept = program::start("flightbell", &["dlq", "accept", "--data-dir", &name], &environment).await;
    assert_eq!(accept.code().await, 0, "{}", accept.log());
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_server_that_is_killed_comes_back_and_nothing_is_lost() {
    let (world, parent) = (World::new().await, folder());
    let data = parent.path().join("data");
    let (program, base) = up(&world, &data, &[]).await;
    let client = client(&data.join("tls/cert.pem")).await;
    world.aircraft(3);
    let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
    register(&client, &base, "ada@example.org", 7, interest).await;
    let mut expected = 0;
    for server in ["Kafka", "PostgreSQL"] {
        let running = local_servers::leftovers::running(&data).await.expect("looked");
        let pid = running.iter().find(|running| running.server == server).expect("it runs").pid;
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, Signal::KILL).expect("killed");
        for count in [8, 3] {
            world.aircraft(count);
            expected += 1;
            let texts = tokio::time::timeout(2 * PATIENCE, world.texts(|texts| texts.len() >= expected)).await;
            assert_eq!(texts.expect("in time").len(), expected, "{server}");
        }
    }
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_while_it_starts_ends_it_cleanly() {
    let (world, parent) = (World::new().await, folder());
    let data = parent.path().join("data").display().to_string();
    let mut environment = world.environment();
    environment.push(("XDG_CACHE_HOME", places().cache_home.display().to_string()));
    let mut program =
        program::start("flightbell", &["up", "--data-dir", &data, "--listen", "127.0.0.1:0"], &environment).await;
    let begun = async {
        while !program.log().contains("starting a private") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("it begins");
    program.signal(Signal::INT);
    assert_eq!(program.code().await, 0, "{}", program.log());
    let left = local_servers::leftovers::running(std::path::Path::new(&data)).await.expect("looked");
    assert!(left.is_empty(), "{left:?}");
}
