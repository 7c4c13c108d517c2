//! What a machine may be like: its umask, its users, its locale and its name.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use serde_json::json;
use testkit::Process;

use crate::{
    commands::run,
    deployment::{TestEnv, client, discovery, folder, register},
    program,
};

/// A user that no machine has a name for.
const NAMELESS: u32 = 4_000_001;

/// `flightbell` with these arguments, started by a command that takes them at its end.
async fn start_by(by: &[&str], arguments: &[&str], environment: &[(&str, String)]) -> Process {
    let binary = program::binary("flightbell").await.display().to_string();
    let arguments: Vec<_> = by[1..].iter().copied().chain([binary.as_str()]).chain(arguments.iter().copied()).collect();
    Process::start(by[0], &arguments, environment.iter().map(|(key, value)| (*key, value)))
}

/// The environment of `up` between the simulators.
fn environment(env: &TestEnv) -> Vec<(&'static str, String)> {
    let mut environment = env.environment();
    environment.push(("XDG_CACHE_HOME", discovery().cache_home.display().to_string()));
    environment
}

/// The files and folders below `folder`, with their modes; links have none of their own.
fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut modes = Vec::new();
    // A server may remove a file meanwhile.
    let Ok(entries) = fs::read_dir(folder) else { return modes };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            modes.extend(self::modes(&path));
        }
        if !meta.is_symlink() {
            modes.push((path, meta.permissions().mode() & 0o7777));
        }
    }
    modes
}

#[tokio::test(flavor = "multi_thread")]
async fn under_an_open_umask_others_can_change_nothing_and_secrets_are_read_by_their_owner_alone() {
    let (env, parent) = (TestEnv::new().await, folder());
    let data = parent.path().join("above/data");
    let folder = data.display().to_string();
    let up = ["up", "--data-dir", &folder, "--listen", "127.0.0.1:0"];
    let mut program = start_by(&["sh", "-c", "umask 000; exec \"$0\" \"$@\""], &up, &environment(&env)).await;
    let base = program.says("ready ").await;
    let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
    register(&client(&data.join("tls/cert.pem")).await, &base, "ada@example.org", 7, interest).await;
    env.aircraft(8);
    env.texts(|texts| texts.len() == 1).await;

    let made = modes(parent.path());
    let open: Vec<_> = made.iter().filter(|(_, mode)| mode & 0o022 != 0).collect();
    assert!(open.is_empty(), "others can change {open:#?}");
    for secret in ["addresses.json", "lock", "tls/key.pem", "postgres/data", "postgres/run", "kafka"] {
        let mode = made.iter().find(|(path, _)| *path == data.join(secret)).expect(secret).1;
        assert_eq!(mode & 0o077, 0, "{secret} has the mode {mode:04o}");
    }
    program.stop().await;
    let open: Vec<_> = modes(parent.path()).into_iter().filter(|(_, mode)| mode & 0o022 != 0).collect();
    assert!(open.is_empty(), "others can change {open:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_locale_that_the_machine_does_not_have_it_starts_and_tells() {
    let (env, parent) = (TestEnv::new().await, folder());
    let data = parent.path().join("flüge");
    let folder = data.display().to_string();
    let up = ["up", "--data-dir", &folder, "--listen", "127.0.0.1:0"];
    let mut environment = environment(&env);
    environment.extend([("LC_ALL", "xx_YY.BROKEN".to_owned()), ("LANG", "tr_TR.ISO-8859-9".to_owned())]);
    let mut program = program::start("flightbell", &up, &environment).await;
    let base = program.says("ready ").await;
    let interest = json!({"airport_code": "LFPG", "metric": "live", "high_value": 5});
    register(&client(&data.join("tls/cert.pem")).await, &base, "ada@example.org", 7, interest).await;
    env.aircraft(8);
    env.texts(|texts| texts.len() == 1).await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_a_name_is_told_so_by_up_and_by_doctor() {
    if !rustix::process::geteuid().is_root() {
        testkit::skip("only root can become a user without a name");
        return;
    }
    let (env, parent) = (TestEnv::new().await, folder());
    let home = parent.path().join("home");
    fs::create_dir(&home).expect("a home");
    chown(&home, Some(NAMELESS), Some(NAMELESS)).expect("given away");
    let data = home.join("data").display().to_string();
    // Its Kafka runs elsewhere, so that PostgreSQL is the only server that would be started.
    let mut environment = env.environment();
    environment.extend([("HOME", home.display().to_string()), ("KAFKA_BROKER_URL", "127.0.0.1:1".to_owned())]);
    let user = NAMELESS.to_string();
    let nameless = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];

    let up = ["up", "--data-dir", &data, "--listen", "127.0.0.1:0"];
    let mut program = start_by(&nameless, &up, &environment).await;
    assert_eq!(program.code().await, 1, "{}", program.log());
    let words = format!("the user with number {NAMELESS} has no name on this machine");
    assert!(program.log().contains(&words) && program.log().contains("/etc/passwd"), "{}", program.log());
    assert_eq!(fs::metadata(home.join("data")).expect("made").uid(), NAMELESS, "it was started as another user");

    let mut doctor = start_by(&nameless, &["doctor", "--data-dir", &data], &environment).await;
    assert_eq!(doctor.code().await, 1, "{}", doctor.out());
    let said = doctor.out();
    assert!(said.contains("WRONG  user") && said.contains(&words), "{said}");

    let (_, said) = run(&["doctor", "--data-dir", &data], &environment).await;
    assert!(!said.contains("WRONG  user"), "root's servers run as a user with a name: {said}");
}

/// `flightbell` on a host of that name, where root may rename one.
const RENAMED: &str = "printf %s \"$1\" >/proc/sys/kernel/hostname && shift && exec \"$@\"";

#[tokio::test(flavor = "multi_thread")]
async fn on_a_host_of_whatever_name_it_starts_with_a_certificate_that_clients_take() {
    let probe = std::process::Command::new("unshare").args(["--uts", "sh", "-c", RENAMED, "sh", "a", "true"]).status();
    if !probe.as_ref().is_ok_and(std::process::ExitStatus::success) {
        testkit::skip(&format!("a host cannot be renamed here ({probe:?})"));
        return;
    }
    let env = TestEnv::new().await;
    let long = "a".repeat(64);
    for name in ["überwachung", "(none)", "my_host", "-", "10.0.0.300", long.as_str()] {
        let parent = folder();
        let certificates = parent.path().display().to_string();
        let gateway = ["gateway", "--listen", "127.0.0.1:0", "--certificates", &certificates];
        let gateway = [&gateway[..], &["--user-manager", "127.0.0.1:1", "--data-collector", "127.0.0.1:1"]].concat();
        let by = ["unshare", "--uts", "sh", "-c", RENAMED, "sh", name];
        let mut program = start_by(&by, &gateway, &[("ADMIN_ADDR", "127.0.0.1:0".to_owned())]).await;
        let base = program.says("ready ").await;
        let client = client(&parent.path().join("cert.pem")).await;
        let ping = client.get(format!("{base}/ping")).send().await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(ping.status(), 200, "{name}");
        program.stop().await;
    }

    // With the servers: a name that Java cannot look up.
    let parent = folder();
    let data = parent.path().join("data").display().to_string();
    let by = ["unshare", "--uts", "sh", "-c", RENAMED, "sh", "überwachung"];
    let up = ["up", "--data-dir", &data, "--listen", "127.0.0.1:0"];
    let mut program = start_by(&by, &up, &environment(&env)).await;
    program.says("ready ").await;
    program.stop().await;
}
