//! `.env`: read, never run, and whatever its values hold.

use crate::stage::{Stage, TOKEN};

#[test]
fn without_a_token_nothing_is_changed_and_the_way_to_one_is_told() {
    let stage = Stage::new();
    for text in ["", "TELEGRAM_BOT_TOKEN=\n", "# TELEGRAM_BOT_TOKEN=1:a\n", "TELEGRAM_BOT_TOKEN= # later\n"] {
        stage.write("checkout/.env", text);
        let run = stage.fail(&["up"], &["TELEGRAM_BOT_TOKEN is missing", "@BotFather"]);
        run.changed_nothing();
    }
    stage.remove("checkout/.env");
    stage.fail(&["up"], &["TELEGRAM_BOT_TOKEN is missing"]).changed_nothing();
}

#[test]
fn a_token_that_the_cluster_holds_need_not_be_given_again() {
    let stage = Stage::new();
    stage.succeed(&["up"]);
    stage.remove("checkout/.env");
    stage.succeed(&["up"]);
    assert_eq!(stage.secret("notifier", "telegram-bot-token").as_deref(), Some(TOKEN));
}

#[test]
fn values_arrive_as_they_were_meant() {
    for (line, expected) in [
        ("TELEGRAM_BOT_TOKEN=1:plain", "1:plain"),
        ("export TELEGRAM_BOT_TOKEN=1:exported", "1:exported"),
        ("  TELEGRAM_BOT_TOKEN = 1:spaced   ", "1:spaced"),
        ("TELEGRAM_BOT_TOKEN=1:a=b==", "1:a=b=="),
        ("TELEGRAM_BOT_TOKEN=1:a#b", "1:a#b"),
        ("TELEGRAM_BOT_TOKEN=1:a # a comment", "1:a"),
        ("TELEGRAM_BOT_TOKEN='1:a b # \"c\" \\'", "1:a b # \"c\" \\"),
        ("TELEGRAM_BOT_TOKEN=\"1:a \\\"b\\\" \\\\ \\n 'c'\" # a comment", "1:a \"b\" \\ \\n 'c'"),
        ("TELEGRAM_BOT_TOKEN=1:$(touch run)`touch run`$HOME", "1:$(touch run)`touch run`$HOME"),
        ("TELEGRAM_BOT_TOKEN=1:carriage\r", "1:carriage"),
        ("TELEGRAM_BOT_TOKEN=1:first\nTELEGRAM_BOT_TOKEN=1:last", "1:last"),
    ] {
        let stage = Stage::new();
        stage.write("checkout/.env", line);
        stage.succeed(&["up"]);
        assert_eq!(stage.secret("notifier", "telegram-bot-token").as_deref(), Some(expected), "{line}");
        assert!(!stage.path("checkout/run").exists() && !std::path::Path::new("run").exists());
    }
}

#[test]
fn a_line_that_cannot_be_read_is_named_by_its_number_and_not_shown() {
    for (text, words) in [
        ("A=1\nhush hush\n", "line 2 of"),
        ("TELEGRAM_BOT_TOKEN=\"hush\n", "the quotes of TELEGRAM_BOT_TOKEN do not end"),
        ("TELEGRAM_BOT_TOKEN='hush\n", "the quotes of TELEGRAM_BOT_TOKEN do not end"),
    ] {
        let stage = Stage::new();
        stage.write("checkout/.env", text);
        let run = stage.fail(&["up"], &[words]);
        assert!(!run.said.contains("hush"), "{}", run.said);
        run.changed_nothing();
    }
}

#[test]
fn open_sky_credentials_are_given_both_or_not_at_all() {
    let stage = Stage::new();
    stage.write("checkout/.env", "TELEGRAM_BOT_TOKEN=1:a\nOPEN_SKY_CLIENT_ID=me\n");
    stage.fail(&["up"], &["OPEN_SKY_CLIENT_ID is given without OPEN_SKY_CLIENT_SECRET"]).changed_nothing();
    stage.write("checkout/.env", "TELEGRAM_BOT_TOKEN=1:a\nOPEN_SKY_CLIENT_ID=me\nOPEN_SKY_CLIENT_SECRET='a b'\n");
    stage.succeed(&["up"]);
    assert_eq!(stage.secret("data-collector", "open-sky-client-id").as_deref(), Some("me"));
    assert_eq!(stage.secret("data-collector", "open-sky-client-secret").as_deref(), Some("a b"));
}

#[test]
fn another_file_of_credentials_can_be_named() {
    let stage = Stage::new();
    stage.write("checkout/elsewhere", "TELEGRAM_BOT_TOKEN=1:elsewhere\n");
    let file = stage.path("checkout/elsewhere").display().to_string();
    stage.succeed(&["up", "--env-file", &file]);
    assert_eq!(stage.secret("notifier", "telegram-bot-token").as_deref(), Some("1:elsewhere"));
    stage.fail(&["up", "--env-file", "/nowhere/env"], &["there is no file /nowhere/env"]).changed_nothing();
}
