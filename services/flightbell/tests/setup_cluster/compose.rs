//! The secrets of Compose: files in `./secrets`, from the same `.env` as those of a cluster.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::stage::{COMPOSE_SECRETS, Run, Stage, TOKEN};

fn run(stage: &Stage) -> Run {
    stage.run_script(COMPOSE_SECRETS, &[], &[])
}

fn succeed(stage: &Stage) -> Run {
    let run = run(stage);
    assert_eq!(run.code, 0, "{}", run.said);
    run
}

fn fail(stage: &Stage, words: &str) {
    let run = run(stage);
    assert_eq!(run.code, 1, "{}", run.said);
    assert!(run.said.contains(words) && !run.said.contains("hush"), "{}", run.said);
    assert!(!stage.path("checkout/secrets").exists(), "nothing was made");
}

fn secret(stage: &Stage, name: &str) -> String {
    stage.read(&format!("checkout/secrets/{name}"))
}

#[test]
fn every_file_is_made_once_and_the_folder_is_closed_to_others() {
    let stage = Stage::new();
    let first = succeed(&stage);
    assert_eq!(secret(&stage, "telegram-bot-token"), TOKEN);
    assert!(!first.said.contains(TOKEN), "{}", first.said);
    let password = secret(&stage, "notifier-password");
    assert_eq!(password.len(), 48);
    let address = format!("postgres://notifier:{password}@postgres:5432/notifier");
    assert_eq!(secret(&stage, "notifier-database-url"), address);
    let mode = |name: &str| fs::metadata(stage.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("checkout/secrets"), 0o700);
    assert_eq!(mode("checkout/secrets/notifier-password"), 0o644, "Compose mounts it with its mode");
    let again = succeed(&stage);
    assert!(!again.said.contains("made secrets/"), "{}", again.said);
    assert_eq!(secret(&stage, "notifier-password"), password);
}

#[test]
fn values_are_read_as_those_of_a_cluster_are() {
    let stage = Stage::new();
    for (line, expected) in [
        ("  TELEGRAM_BOT_TOKEN = 1:spaced   ", "1:spaced"),
        ("TELEGRAM_BOT_TOKEN=1:a # a comment", "1:a"),
        ("TELEGRAM_BOT_TOKEN='1:a b # \"c\" \\'", "1:a b # \"c\" \\"),
        ("TELEGRAM_BOT_TOKEN=\"1:a \\\"b\\\" \\\\ 'c'\" # a comment", "1:a \"b\" \\ 'c'"),
        ("TELEGRAM_BOT_TOKEN=1:$(touch run)$HOME", "1:$(touch run)$HOME"),
    ] {
        stage.write("checkout/.env", line);
        succeed(&stage);
        assert_eq!(secret(&stage, "telegram-bot-token"), expected, "{line}");
    }
    let given = [("TELEGRAM_BOT_TOKEN", "1:environment")];
    assert_eq!(stage.run_script(COMPOSE_SECRETS, &[], &given).code, 0);
    assert_eq!(secret(&stage, "telegram-bot-token"), "1:environment", "the environment wins");
    stage.remove("checkout/.env");
    succeed(&stage);
    assert_eq!(secret(&stage, "telegram-bot-token"), "1:environment", "what is there stays");
}

#[test]
fn what_is_wrong_is_told_as_for_a_cluster_and_nothing_is_made() {
    let stage = Stage::new();
    for (text, words) in [
        ("", "TELEGRAM_BOT_TOKEN is missing"),
        ("A=1\nhush hush\n", "line 2 of"),
        ("TELEGRAM_BOT_TOKEN=\"hush\n", "the quotes of TELEGRAM_BOT_TOKEN do not end"),
        ("TELEGRAM_BOT_TOKEN=1:a\nOPEN_SKY_CLIENT_ID=me\n", "is given without OPEN_SKY_CLIENT_SECRET"),
    ] {
        stage.write("checkout/.env", text);
        fail(&stage, words);
    }
}
