//! Secrets: random, kept, rotated in an order that no pod notices, and never seen.

use crate::stage::{Stage, TOKEN};

const SERVICES: [&str; 4] = ["user-manager", "data-collector", "alert-system", "notifier"];

#[test]
fn passwords_are_long_different_and_the_same_in_every_address() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let mut passwords = Vec::new();
    for service in SERVICES {
        let password = stage.secret("postgres", &format!("{service}-password")).unwrap();
        assert!(password.len() == 32 && password.chars().all(|c| c.is_ascii_alphanumeric()), "{password}");
        let role = service.replace('-', "_");
        let address = format!("postgres://{role}:{password}@postgres/{role}");
        assert_eq!(stage.secret(service, "database-url").as_ref(), Some(&address));
        assert_eq!(stage.secret("migrate", &format!("{service}-database-url")), Some(address));
        passwords.push(password);
    }
    passwords.push(stage.secret("postgres", "postgres-password").unwrap());
    passwords.sort_unstable();
    passwords.dedup();
    assert_eq!(passwords.len(), 5);
    let cluster = stage.secret("kafka", "cluster-id").unwrap();
    assert!(cluster.len() == 22 && cluster.ends_with('A'), "{cluster}");
}

#[test]
fn no_secret_is_an_argument_of_any_program_or_printed() {
    let stage = Stage::new();
    for tool in [
        "awk", "base64", "cat", "cmp", "cp", "cut", "diff", "find", "grep", "head", "mkdir", "mktemp", "rm", "sed",
        "sort", "tr",
    ] {
        stage.wrap(tool);
    }
    let mut said = String::new();
    let mut secrets = Vec::new();
    for arguments in [&["up"][..], &["secrets", "--rotate", "databases"], &["status"]] {
        let run = stage.succeed(arguments);
        said.push_str(&run.said);
        said.push_str(&run.calls.join("\n"));
        secrets.extend(stage.secrets());
    }
    said.push_str(&stage.read("stage/arguments"));
    assert!(stage.read("stage/arguments").contains("base64"));
    assert!(secrets.contains(&TOKEN.to_owned()) && secrets.len() == 21);
    for secret in secrets {
        assert!(!said.contains(&secret), "{secret} was seen");
    }
}

#[test]
fn what_is_in_the_cluster_stays_and_what_is_missing_is_added() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let before = stage.secrets();
    stage.remove("stage/objects/Secret/user-manager");
    let run = stage.succeed(&["up"]);
    assert_eq!(run.calls_of("applied Secret"), ["applied Secret/user-manager"]);
    assert_eq!(stage.secrets(), before);
    let address = stage.secret("user-manager", "database-url").unwrap();
    assert!(address.contains(&stage.secret("postgres", "user-manager-password").unwrap()));
}

#[test]
fn an_interrupted_run_goes_on_with_the_passwords_that_it_had_made() {
    let stage = Stage::new();
    stage.write("stage/fails-apply", "Secret/alert-system\n");
    stage.fail(&["up"], &["Secret alert-system is refused", "cannot be written"]);
    let password = stage.secret("postgres", "alert-system-password").unwrap();
    stage.remove("stage/fails-apply");
    stage.succeed(&["up"]);
    assert_eq!(stage.secret("postgres", "alert-system-password").as_ref(), Some(&password));
    assert!(stage.secret("alert-system", "database-url").unwrap().contains(&password));
}

#[test]
fn another_token_is_taken_over_and_restarts_who_reads_it_and_nobody_else() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let before = stage.read("stage/kustomization.yaml");
    stage.write("checkout/.env", "TELEGRAM_BOT_TOKEN=9:new\n");
    let run = stage.succeed(&["secrets"]);
    assert_eq!(run.calls_of("applied Secret"), ["applied Secret/notifier"]);
    assert_eq!(stage.secret("notifier", "telegram-bot-token").as_deref(), Some("9:new"));
    assert!(before.contains("notifier@1"), "{before}");
    assert_eq!(stage.read("stage/kustomization.yaml"), before.replace("notifier@1", "notifier@2"));
}

#[test]
fn the_server_learns_new_passwords_before_any_service_does() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let before = stage.secrets();
    let run = stage.succeed(&["secrets", "--rotate", "databases"]);
    run.in_order(&[
        "applied Secret/postgres",
        "kubectl --context kind-flightbell --namespace flightbell delete job databases-",
        "applied Job/databases-",
        "kubectl --context kind-flightbell --namespace flightbell wait job/databases-",
        "applied Secret/user-manager",
        "applied Secret/notifier",
        "applied Secret/migrate",
        "applied Deployment/user-manager",
    ]);
    let after = stage.secrets();
    assert_eq!(before[..3], after[..3], "Kafka's id, the token and the server's own password stay");
    assert!(before[3..].iter().zip(&after[3..]).all(|(old, new)| old != new));
    assert!(stage.read("stage/kustomization.yaml").contains("user-manager@2"), "with the versions that they have now");
}

#[test]
fn new_passwords_do_not_wait_for_a_job_that_an_interrupted_run_left_active() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let jobs = std::fs::read_dir(stage.path("stage/objects/Job")).unwrap();
    let names = jobs.map(|job| job.unwrap().file_name().into_string().unwrap());
    let job = names.into_iter().find(|name| name.starts_with("databases-")).unwrap();
    // A Job without conditions has not ended.
    stage.write(&format!("stage/objects/Job/{job}"), "");
    let run = stage.succeed(&["secrets", "--rotate", "databases"]);
    let delete = format!("kubectl --context kind-flightbell --namespace flightbell delete job {job}");
    run.in_order(&["applied Secret/postgres", &delete, &format!("applied Job/{job}"), "applied Secret/user-manager"]);
}

#[test]
fn a_rotation_that_was_cut_off_is_completed_by_the_next_run() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let old = stage.secret("user-manager", "database-url").unwrap();
    let tag = stage.read("stage/objects/Deployment/user-manager");
    let tag = tag.lines().find_map(|line| line.split("flightbell/user-manager:").nth(1)).unwrap();
    stage.write("stage/fails-job", &format!("databases-{}\n", tag.replace('.', "-")));
    stage.fail(&["secrets", "--rotate", "databases"], &["failed"]);
    assert_eq!(stage.secret("user-manager", "database-url"), Some(old.clone()), "the server does not know another");
    let password = stage.secret("postgres", "user-manager-password").unwrap();
    stage.remove("stage/fails-job");
    let run = stage.succeed(&["up"]);
    run.in_order(&["applied Job/databases-", "applied Secret/user-manager"]);
    let new = stage.secret("user-manager", "database-url").unwrap();
    assert!(new != old && new.contains(&password), "{new}");
}

#[test]
fn a_new_certificate_has_the_authority_of_the_old_one() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let value = |key| stage.secret("flightbell-tls", key).unwrap();
    let before = (value("ca.crt"), value("tls.crt"), value("tls.key"));
    let run = stage.succeed(&["secrets", "--rotate", "certificate"]);
    assert_eq!(run.calls_of("applied Secret"), ["applied Secret/flightbell-tls"]);
    let after = (value("ca.crt"), value("tls.crt"), value("tls.key"));
    assert!(before.0 == after.0 && before.1 != after.1 && before.2 != after.2);
}

#[test]
fn a_certificate_that_was_made_elsewhere_stays() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    let before = stage.secret("flightbell-tls", "tls.crt");
    std::fs::remove_dir_all(stage.path("home/.local")).unwrap();
    let run = stage.succeed(&["deploy", "--overlay", "kind"]);
    assert!(run.said.contains("it stays"), "{}", run.said);
    assert_eq!(stage.secret("flightbell-tls", "tls.crt"), before);
    let calls: Vec<_> = run.calls.iter().filter(|call| call.contains("https://localhost/")).collect();
    assert!(calls.iter().all(|call| call.contains("--cacert")), "its authority is in the Secret");
}
