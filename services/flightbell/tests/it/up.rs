use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use local_servers::{Addresses, orphans};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::{Folder, Frozen, Process, SmallDisk};

use crate::{
    deployment::{TestEnv, client, discovery, folder, is_settled, register, up},
    program::{self, PATIENCE},
};

/// `flightbell up` in a folder of its own, a user's client, and the environment around both.
pub struct UpInstance {
    pub env: TestEnv,
    pub client: reqwest::Client,
    pub base: String,
    pub program: Process,
    pub data: PathBuf,
    _parent: Folder,
}

impl UpInstance {
    pub async fn build() -> Self {
        let parent = folder();
        let data = parent.path().join("data");
        Self::build_in(data, parent).await
    }

    async fn build_in(data: PathBuf, parent: Folder) -> Self {
        let env = TestEnv::new().await;
        let (program, base) = up(&env, &data, &[]).await;
        let client = client(&data.join("tls/cert.pem")).await;
        Self { env, client, base, program, data, _parent: parent }
    }

    /// SIGKILL for `up` itself, which leaves its servers behind.
    pub async fn kill(&mut self) {
        self.program.signal(Signal::KILL);
        self.program.ended().await;
    }

    /// The next start on the same folder.
    pub async fn start_again(&mut self) {
        (self.program, self.base) = up(&self.env, &self.data, &[]).await;
    }

    /// The process of `PostgreSQL` or `Kafka`, once it runs.
    pub async fn pid_of(&self, server: &str) -> u32 {
        let mut pid = None;
        testkit::wait_for(server, PATIENCE, async || {
            let running = orphans::running(&self.data).await.expect("looked");
            pid = running.iter().find(|running| running.server == server).map(|running| running.pid);
            pid.is_some()
        })
        .await;
        pid.expect("it runs")
    }

    /// SIGKILL for one of its servers.
    pub async fn kill_server(&self, server: &str) {
        let pid = i32::try_from(self.pid_of(server).await).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::KILL).expect("killed");
    }

    fn addresses(&self) -> Addresses {
        Addresses::read(&self.data).expect("readable").expect("it runs")
    }

    /// Waits until nothing in the ledger is under way.
    pub async fn settled(&self) {
        is_settled(&self.addresses().databases["notifier"]).await;
    }

    /// Whether it is ready, and what `/readyz` says.
    async fn readiness(&self) -> (bool, String) {
        let answer = self.client.get(format!("http://{}/readyz", self.addresses().admin)).send().await;
        let answer = answer.expect("answered");
        (answer.status() == 200, answer.text().await.expect("a report"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_watches_an_airport_and_survives_its_own_death() {
    let (env, parent) = (TestEnv::new().await, folder());
    let data = parent.path().join("data");
    let (program, base) = up(&env, &data, &[]).await;
    let client = client(&data.join("tls/cert.pem")).await;
    env.aircraft(8);
    let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
    register(&client, &base, "ada@example.org", 7, interest).await;
    env.texts(|texts| texts.len() == 1).await;
    let addresses = local_servers::Addresses::read(&data).expect("readable").expect("it runs");
    is_settled(&addresses.databases["notifier"]).await;

    // Killed, it leaves its servers behind; the next start stops them and goes on where it was.
    program.kill().await;
    env.aircraft(3);
    let (program, base) = up(&env, &data, &[]).await;
    let texts = env.texts(|texts| texts.len() == 2).await;
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
    assert!(local_servers::orphans::running(&data).await.expect("looked").is_empty());
    let (program, _) = up(&env, &data, &[]).await;
    env.aircraft(9);
    let texts = env.texts(|texts| texts.len() >= 3).await;
    assert_eq!(texts.len(), 3, "{texts:#?}");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_on_the_same_folder_names_folder_and_pid_and_touches_nothing() {
    let (env, parent) = (TestEnv::new().await, folder());
    let data = parent.path().join("data");
    let (mut first, base) = up(&env, &data, &[]).await;
    let name = data.display().to_string();
    let arguments = ["up", "--data-dir", name.as_str(), "--listen", "127.0.0.1:0"];
    let mut environment = env.environment();
    environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
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
    assert!(dlq.out().contains("to-notifier/notifier: 0 dead letters"), "{}", dlq.out());
    let mut reset = program::start("flightbell", &["dlq", "reset", "--data-dir", &name], &environment).await;
    assert_eq!(reset.code().await, 0, "{}", reset.log());
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_server_that_is_killed_comes_back_and_nothing_is_lost() {
    let instance = UpInstance::build().await;
    instance.env.aircraft(3);
    let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
    register(&instance.client, &instance.base, "ada@example.org", 7, interest).await;
    let mut expected = 0;
    for server in ["Kafka", "PostgreSQL"] {
        instance.kill_server(server).await;
        for count in [8, 3] {
            instance.env.aircraft(count);
            expected += 1;
            let texts = tokio::time::timeout(2 * PATIENCE, instance.env.texts(|texts| texts.len() >= expected)).await;
            assert_eq!(texts.expect("in time").len(), expected, "{server}");
        }
    }
    instance.program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_server_that_is_frozen_for_20_s_is_waited_for_and_nothing_is_lost() {
    let mut instance = UpInstance::build().await;
    instance.env.aircraft(3);
    let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
    register(&instance.client, &instance.base, "ada@example.org", 7, interest).await;
    let mut expected = 0;
    for server in ["Kafka", "PostgreSQL"] {
        let frozen = Frozen::freeze(instance.pid_of(server).await);
        instance.env.aircraft(8);
        // Not a wait for anything: the length of the outage.
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(!instance.program.is_over(), "{}", instance.program.log());
        drop(frozen);
        expected += 1;
        instance.env.texts(|texts| texts.len() >= expected).await;
        instance.env.aircraft(3);
        expected += 1;
        instance.env.texts(|texts| texts.len() >= expected).await;
        instance.settled().await;
        let texts = instance.env.texts(|_| true).await;
        assert_eq!(texts.len(), expected, "{server}: {texts:#?}");
    }
    instance.program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_is_told_and_waited_for_and_nothing_acknowledged_is_lost() {
    let parent = folder();
    // More than a GiB must be free at first. The disk is in memory and takes only what is written.
    let Some(disk) = SmallDisk::mount(&parent.path().join("disk"), "1500m") else { return };
    let mut instance = UpInstance::build_in(disk.path().join("data"), parent).await;
    assert!(instance.readiness().await.0, "{}", instance.program.log());
    instance.env.aircraft(3);
    let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
    register(&instance.client, &instance.base, "ada@example.org", 7, interest).await;

    // Less than a GiB: not ready and said, while everything works.
    disk.leave(500 << 20);
    // What was asked just before holds for a second.
    testkit::wait_for("it not to be ready", PATIENCE, async || !instance.readiness().await.0).await;
    let (ready, report) = instance.readiness().await;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let parts = report["services"].as_array().expect("services").iter().flat_map(|service| service["parts"].as_array());
    let down: Vec<_> = parts.flatten().filter(|part| part["up"] == false).collect();
    assert!(!ready && down.len() == 1 && down[0]["name"] == "disk", "{report:#}");
    let detail = down[0]["detail"].as_str().expect("words");
    assert!(detail.contains("MiB are free") && detail.contains("make room"), "{detail}");
    testkit::wait_for("a line in the log", PATIENCE, async || instance.program.log().contains("MiB are free")).await;
    instance.env.aircraft(8);
    instance.env.texts(|texts| texts.len() == 1).await;

    // Nothing left: a server cannot write and ends, and is not started before there is room.
    disk.leave(0);
    instance.env.aircraft(3);
    let mut acknowledged = Vec::new();
    testkit::wait_for("the full disk to show", PATIENCE, async || {
        let email = format!("{}@example.org", acknowledged.len());
        let user = json!({"email": email, "first_name": "Ada", "last_name": "Lovelace"});
        let asked = instance.client.post(format!("{}/user-manager/users", instance.base)).json(&user);
        let answer = asked.header("Idempotency-Key", &email).send().await.expect("answered");
        match answer.status().as_u16() {
            201 => acknowledged.push(email),
            503 => {}
            other => panic!("{other}"),
        }
        instance.program.log().contains("waits for room")
    })
    .await;
    assert!(!instance.program.is_over());

    disk.resize("1500m");
    let texts = instance.env.texts(|texts| texts.len() >= 2).await;
    assert!(texts[1].contains("is back within the thresholds"), "{texts:?}");
    testkit::wait_for("it to be ready again", PATIENCE, async || instance.readiness().await.0).await;
    for email in acknowledged {
        let user = instance.client.get(format!("{}/user-manager/users/{email}", instance.base)).send().await;
        assert_eq!(user.expect("answered").status(), 200, "{email}");
    }
    instance.env.aircraft(9);
    instance.env.texts(|texts| texts.len() >= 3).await;
    instance.settled().await;
    let texts = instance.env.texts(|_| true).await;
    assert_eq!(texts.len(), 3, "{texts:#?}");
    instance.program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_ends_it_at_once_with_130_and_leaves_no_server() {
    let mut instance = UpInstance::build().await;
    // What holds the stop up: nothing that is acknowledged can be written.
    let frozen = [instance.pid_of("Kafka").await, instance.pid_of("PostgreSQL").await].map(Frozen::freeze);
    instance.program.signal(Signal::INT);
    // What `timeout` and some terminals do: the same wish twice.
    instance.program.signal(Signal::INT);
    testkit::wait_for("the stop to begin", PATIENCE, async || instance.program.log().contains("stopping")).await;
    // Not a wait for anything: impatience.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!instance.program.is_over(), "{}", instance.program.log());
    let begun = Instant::now();
    instance.program.signal(Signal::INT);
    assert_eq!(instance.program.code().await, 130, "{}", instance.program.log());
    assert!(begun.elapsed() < Duration::from_secs(2), "it took {:?}", begun.elapsed());
    testkit::wait_for("no server to be left", PATIENCE, async || {
        orphans::running(&instance.data).await.expect("looked").is_empty()
    })
    .await;
    drop(frozen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_is_closed_stops_it_in_order_unless_nohup_was_asked_for() {
    // The person who runs the tests may have asked for nohup, which every process below inherits.
    let as_in_a_terminal: &[&str] = if cfg!(target_os = "linux") { &["env", "--default-signal=HUP"] } else { &["env"] };
    let (env, parent) = (TestEnv::new().await, folder());
    let mut environment = env.environment();
    environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
    let data = parent.path().join("data");
    let up =
        [env!("CARGO_BIN_EXE_flightbell"), "up", "--data-dir", &data.display().to_string(), "--listen", "127.0.0.1:0"]
            .map(str::to_owned);
    let start = async |by: &[&str]| {
        let arguments: Vec<&str> = by[1..].iter().copied().chain(up.iter().map(String::as_str)).collect();
        let mut program = Process::start(by[0], &arguments, environment.clone());
        let base = program.says("ready ").await;
        program.signal(Signal::HUP);
        (program, base)
    };

    let (program, _) = start(as_in_a_terminal).await;
    program.clean_end().await;
    assert!(orphans::running(&data).await.expect("looked").is_empty());

    let (program, base) = start(&["nohup"]).await;
    let ping = client(&data.join("tls/cert.pem")).await.get(format!("{base}/ping")).send().await.expect("answered");
    assert_eq!(ping.status(), 200);
    assert!(!program.log().contains("stopping"), "{}", program.log());
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_again_and_again_ends_it_with_the_last_lines_of_its_log() {
    let mut instance = UpInstance::build().await;
    let mut last = 0;
    for _ in 0..3 {
        let mut pid = last;
        testkit::wait_for("the server to run again", PATIENCE, async || {
            pid = instance.pid_of("PostgreSQL").await;
            pid != last
        })
        .await;
        instance.kill_server("PostgreSQL").await;
        last = pid;
    }
    assert_eq!(instance.program.code().await, 1);
    let log = instance.program.log();
    assert!(log.contains("PostgreSQL died 3 times within a minute"), "{log}");
    assert!(log.contains("the last lines of") && log.contains("postgres.log:\n") && log.contains(" UTC ["), "{log}");
    assert!(orphans::running(&instance.data).await.expect("looked").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told_before_anything_is_started() {
    let (env, parent) = (TestEnv::new().await, folder());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address").to_string();
    let mut environment = env.environment();
    environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
    let data = parent.path().join("data").display().to_string();
    let arguments = ["up", "--data-dir", data.as_str(), "--listen", listen.as_str()];
    let mut program = program::start("flightbell", &arguments, &environment).await;
    assert_eq!(program.code().await, 1);
    let log = program.log();
    assert!(log.contains(&listen) && log.contains("--listen") && !log.contains("starting a private"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_while_it_starts_ends_it_cleanly() {
    let (env, parent) = (TestEnv::new().await, folder());
    let data = parent.path().join("data").display().to_string();
    let mut environment = env.environment();
    environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
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
    assert!(!program.log().contains('\u{1b}'), "colours are for terminals: {}", program.log());
    let left = local_servers::orphans::running(std::path::Path::new(&data)).await.expect("looked");
    assert!(left.is_empty(), "{left:?}");
}
