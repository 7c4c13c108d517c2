//! Environment, arguments, ports and probes: what a container is told, its program's own code accepts and reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flightbell::{SERVICES, cli};
use runtime::config::{Reader, RuntimeConfig, Settings};
use service::ServiceSpec;

use crate::rendered::{Program, Render, renders};

/// What a Secret may hold under a key, by the name of the variable that names its file.
fn secret(variable: &str) -> &'static str {
    match variable {
        "TELEGRAM_BOT_TOKEN_FILE" => "123456:ABC-DEF_ghi",
        "KAFKA_SASL_PASSWORD_FILE" | "KAFKA_CA_FILE" => "hush",
        name if name.ends_with("DATABASE_URL_FILE") => "postgres://a:hush@postgres/a",
        other => panic!("what does the file of {other} hold?"),
    }
}

/// The variables as the program would find them, with files in place of those that are mounted.
fn found(program: &Program<'_>, folder: &std::path::Path) -> HashMap<String, String> {
    let mut vars: HashMap<_, _> = program.shared.clone().into_iter().chain(program.own.clone()).collect();
    for (name, value) in &mut vars {
        if value.starts_with("/run/") {
            assert!(is_mounted(program, value), "{}: nothing is mounted at {value}", program.name());
            let file = folder.join(name);
            std::fs::write(&file, secret(name)).expect("write");
            *value = file.to_string_lossy().into_owned();
        }
    }
    vars
}

fn is_mounted(program: &Program<'_>, path: &str) -> bool {
    let mounts = program.container["volumeMounts"].as_array().expect("mounts");
    let below = |mount: &str| path.strip_prefix(mount).is_some_and(|rest| rest.starts_with('/'));
    mounts.iter().any(|mount| mount["mountPath"].as_str().is_some_and(below))
}

fn service(name: &str) -> Option<&'static ServiceSpec> {
    SERVICES.iter().copied().find(|spec| spec.name == name)
}

/// The settings that a program reads of its variables, which it must accept.
fn settings(render: &Render, program: &Program<'_>) -> Settings {
    let folder = tempfile::tempdir().expect("a folder");
    let vars = found(program, folder.path());
    if let Some(spec) = service(program.image) {
        let configured = (spec.configure)(&vars);
        let configured = configured.unwrap_or_else(|error| panic!("{}: {}: {error}", render.name, program.name()));
        return configured.settings().clone();
    }
    assert_eq!(program.image, "flightbell");
    let mut reader = Reader::new(&vars);
    match program.args().first() {
        Some(&"gateway") => drop(RuntimeConfig::read(&mut reader)),
        Some(&"migrate") => {
            for key in SERVICES.iter().filter_map(|spec| spec.database_key()) {
                assert!(reader.required_secret(&key, "a database").is_some(), "{}: {key} is missing", render.name);
            }
        }
        other => panic!("{}: what does `flightbell {other:?}` read?", render.name),
    }
    let settings = reader.settings();
    reader.finish(|| Some(())).unwrap_or_else(|error| panic!("{}: {}: {error}", render.name, program.name()));
    settings
}

#[test]
fn every_program_accepts_its_environment_and_reads_all_of_it() {
    let mut seen = BTreeSet::new();
    for render in renders() {
        let mut readers: BTreeMap<String, bool> = BTreeMap::new();
        for program in render.programs() {
            let settings = settings(&render, &program);
            for key in program.own.keys() {
                assert!(settings.knows(key), "{}: {} does not read {key}", render.name, program.name());
            }
            for key in program.shared.keys() {
                *readers.entry(key.clone()).or_default() |= settings.knows(key);
            }
            seen.insert(program.name().to_owned());
        }
        // What a ConfigMap says to several, one of them at least reads.
        let unread: Vec<_> = readers.iter().filter(|(_, is_read)| !**is_read).collect();
        assert!(unread.is_empty(), "{}: nobody reads {unread:?}", render.name);
    }
    let all = SERVICES.iter().map(|spec| spec.name).chain(["gateway", "migrate"]);
    assert_eq!(seen, all.map(ToOwned::to_owned).collect::<BTreeSet<_>>());
}

#[test]
fn the_programs_know_their_arguments() {
    for render in renders() {
        for program in render.programs() {
            let args = program.args();
            if program.image == "flightbell" {
                let matched = cli::command(SERVICES).try_get_matches_from([&["flightbell"][..], &args].concat());
                matched.unwrap_or_else(|error| panic!("{}: {}: {error}", render.name, program.name()));
            } else {
                assert!(args.is_empty(), "{}: {} takes no arguments", render.name, program.name());
            }
        }
    }
}

#[test]
fn ports_are_those_on_which_the_programs_listen_and_probes_ask_the_admin_port() {
    for render in renders() {
        for program in render.programs().into_iter().filter(|program| program.workload["kind"] == "Deployment") {
            let settings = settings(&render, &program);
            let listens = |key: &str| {
                let addr = settings.get(key).filter(|setting| !setting.value.is_empty())?;
                addr.value.rsplit(':').next()?.parse::<u64>().ok()
            };
            let mut expected: BTreeMap<_, _> = [("http", "HTTP_ADDR"), ("grpc", "GRPC_ADDR"), ("admin", "ADMIN_ADDR")]
                .into_iter()
                .filter_map(|(name, key)| Some((name, listens(key)?)))
                .collect();
            if program.name() == "gateway" {
                let of_option = |option: &str| {
                    let arg = program.args().into_iter().find_map(|arg| arg.strip_prefix(option)).expect(option);
                    arg.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
                };
                expected.extend([("https", of_option("--listen=")), ("http", of_option("--listen-http="))]);
            }
            assert_eq!(program.ports(), expected, "{}: {}", render.name, program.name());
            let probes = [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")];
            for (probe, path) in probes {
                let get = &program.container[probe]["httpGet"];
                assert_eq!((get["path"].as_str(), get["port"].as_str()), (Some(path), Some("admin")), "{probe}");
            }
        }
        check_services(&render);
    }
}

/// Each Service of ours leads to ports that its pods have.
fn check_services(render: &Render) {
    let programs = render.programs();
    for service in render.of_kind("Service") {
        let name = service["spec"]["selector"]["app.kubernetes.io/name"].as_str();
        let Some(program) = programs.iter().find(|program| Some(program.name()) == name) else { continue };
        for port in service["spec"]["ports"].as_array().expect("ports") {
            let target = port["targetPort"].as_str().expect("the name of a port");
            let listens = program.ports().get(target).copied();
            assert!(listens.is_some(), "{}: {name:?} has no port {target}", render.name);
            if program.name() != "gateway" {
                assert_eq!(port["port"].as_u64(), listens, "{}: {name:?} {target}", render.name);
            }
        }
    }
}

#[test]
fn a_pod_has_longer_to_end_than_its_program_takes() {
    for render in renders() {
        for program in render.programs().into_iter().filter(|program| program.workload["kind"] == "Deployment") {
            let pod = &program.workload["spec"]["template"]["spec"];
            let sleep = program.container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("a preStop");
            let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
            let needed = sleep + (runtime::tasks::STOP_LIMIT + runtime::CLOSE_LIMIT).as_secs();
            assert!(grace > needed, "{}: {} has {grace} s and needs {needed} s", render.name, program.name());
        }
    }
}

#[test]
fn postgres_has_room_for_the_connections_of_every_replica_and_a_surge() {
    // Leases, the listener and the health check have connections of their own: README, "Settings".
    const OWN: u64 = 4;
    let mut checked = 0;
    for render in renders() {
        let Some(most) = max_connections(&render) else { continue };
        let mut needed = 0;
        for program in render.programs().iter().filter(|program| service(program.image).is_some()) {
            let pool = |key: &str| program.shared[key].parse::<u64>().expect("a number");
            let of_pod = pool("DATABASE_POOL_SIZE") + pool("DATABASE_BACKGROUND_POOL_SIZE") + OWN;
            needed += of_pod * (replicas(&render, program) + 1);
        }
        assert!(needed + 10 < most, "{}: PostgreSQL allows {most} connections, {needed} are needed", render.name);
        checked += 1;
    }
    assert!(checked > 1, "{checked} renders have a PostgreSQL");
}

fn max_connections(render: &Render) -> Option<u64> {
    let of_operator = render
        .of_kind("Cluster")
        .find_map(|cluster| cluster["spec"]["postgresql"]["parameters"]["max_connections"].as_str()?.parse().ok());
    let args = |set: &serde_json::Value| set["spec"]["template"]["spec"]["containers"][0]["args"].as_array().cloned();
    let of_server = render
        .of_kind("StatefulSet")
        .filter_map(args)
        .flatten()
        .find_map(|arg| arg.as_str()?.strip_prefix("max_connections=")?.parse().ok());
    of_operator.or(of_server)
}

fn replicas(render: &Render, program: &Program<'_>) -> u64 {
    let scaled = render.of_kind("ScaledObject").find(|scaled| scaled["metadata"]["name"] == program.name());
    let scaled = scaled.and_then(|scaled| scaled["spec"]["maxReplicaCount"].as_u64());
    scaled.or(program.workload["spec"]["replicas"].as_u64()).expect("replicas")
}
