use std::collections::HashMap;

use super::*;
use crate::http_client::Proxies;

fn vars(of: &[(&str, &str)]) -> HashMap<String, String> {
    of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Everything that may be shown of `settings`.
fn shown(settings: &Settings) -> String {
    format!("{settings}\n{}\n{settings:?}", settings.lines().collect::<Vec<_>>().join("\n"))
}

fn line(settings: &Settings, key: &str) -> String {
    settings.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key} in {settings}"))
}

#[test]
fn a_secret_never_shows_and_neither_does_its_length() {
    let file = std::env::temp_dir().join(format!("flightbell-shown-{}", std::process::id()));
    std::fs::write(&file, "hush-hush\n").expect("write the secret");
    let path = file.display().to_string();
    let vars = vars(&[
        ("VALUE", "hush"),
        ("OF_FILE_FILE", &path),
        ("URL", "https://ada:hush@host/hush?key=hush#hush"),
        ("HTTPS_PROXY", "socks5h://ada:hush@proxy.test:1080"),
        ("http_proxy", "ada:hush@proxy.test:3128"),
        ("DATABASE_URL", "postgres://ada:hush@host/users?password=hush"),
        ("ACCOUNT", "ada@example.org"),
        ("SIGNING_KEY", "hush"),
        ("TAKEN_FOR_TEXT", "hush"),
    ]);
    let mut reader = Reader::new(&vars);
    reader.secret("VALUE").expect("a secret");
    reader.required_secret("OF_FILE", "a secret").expect("a secret");
    reader.raw("URL");
    Proxies::read(&mut reader);
    reader.required_database_url("DATABASE_URL", "a database").expect("a secret");
    reader.private("ACCOUNT").expect("a name");
    reader.raw("SIGNING_KEY").expect("a secret");
    // Whichever call reads first, it is a secret.
    reader.raw("TAKEN_FOR_TEXT").expect("a secret");
    reader.secret("TAKEN_FOR_TEXT").expect("a secret");
    reader.raw("TAKEN_FOR_TEXT").expect("a secret");
    let settings = reader.settings();
    assert_eq!(line(&settings, "VALUE"), "VALUE=*** (environment)");
    assert_eq!(line(&settings, "OF_FILE"), "OF_FILE=*** (file)");
    assert_eq!(line(&settings, "URL"), "URL=https://***@host/***?*** (environment)");
    assert_eq!(line(&settings, "HTTPS_PROXY"), "HTTPS_PROXY=socks5h://***@proxy.test:1080 (environment)");
    assert_eq!(line(&settings, "http_proxy"), "http_proxy=***@proxy.test:3128 (environment)");
    assert_eq!(line(&settings, "DATABASE_URL"), "DATABASE_URL=postgres://***@host/users?*** (environment)");
    assert_eq!(line(&settings, "TAKEN_FOR_TEXT"), "TAKEN_FOR_TEXT=*** (environment)");
    let shown = shown(&settings);
    assert!(!shown.contains("hush") && !shown.contains("ada") && !shown.contains(&path), "{shown}");
    std::fs::remove_file(file).expect("remove the secret");
}

#[test]
fn a_secret_in_the_place_of_its_file_shows_neither_in_the_problem_nor_among_the_settings() {
    let vars = vars(&[("TOKEN_FILE", "1:hush"), ("OTHER_FILE", "/nowhere/token")]);
    let mut reader = Reader::new(&vars);
    assert!(reader.secret("TOKEN").is_none() && reader.secret("OTHER").is_none());
    assert_eq!(line(&reader.settings(), "TOKEN"), "TOKEN is not set");
    let error = reader.finish(|| Some(())).expect_err("problems");
    let said = format!("{error} {}", shown(error.settings()));
    assert!(said.contains("- TOKEN_FILE cannot be used") && said.contains("/nowhere/token"), "{said}");
    assert!(!said.contains("hush"), "{said}");
}

#[test]
fn each_setting_is_shown_with_its_origin() {
    let below = vars(&[("PORT", "1"), ("RUST_LOG", "debug")]);
    let given = Overlay::on(&below).by("up").with("ADMIN_ADDR", "127.0.0.1:0").without("LOG_FORMAT");
    let given = Overlay::on(&given).by("another");
    let mut reader = Reader::new(&given);
    RuntimeConfig::read(&mut reader);
    assert_eq!(reader.number("PORT", 7, 1, 10), 1);
    assert_eq!(reader.number("DAYS", 7, 1, 10), 7);
    reader.web_url("URL", "http://host/api").expect("a URL");
    reader.unlisted("OF_ANOTHER_PART");
    let settings = reader.settings();
    let expected = "environment: PORT=1 RUST_LOG=debug; given by up: ADMIN_ADDR=127.0.0.1:0; \
                    default: DAYS=7 LAME_DUCK_SECONDS=0 LOG_FORMAT=text OTEL_TRACES_SAMPLER_ARG=1 \
                    URL=http://host/api; \
                    not set: OTEL_EXPORTER_OTLP_ENDPOINT";
    assert_eq!(settings.to_string(), expected);
    assert_eq!(settings.get("PORT").expect("a port").origin, Origin::Environment);
}

#[test]
fn what_was_read_before_a_problem_is_shown_all_the_same() {
    let vars = [("PORT", "seven"), ("HOST", "here")];
    let mut reader = Reader::new(&vars);
    reader.or("PORT", 7u16);
    reader.required::<String>("HOST", "a host");
    let error = ConfigError::joined(reader.finish(|| Some(())).err()).expect("a problem");
    assert_eq!(error.settings().to_string(), "environment: HOST=here PORT=seven");
}

#[test]
fn a_name_that_is_almost_a_settings_is_told() {
    let vars = vars(&[
        ("KAFKA_BROKER_URI", "a"),
        ("KAFKA_BROKRE_URL", "a"),
        ("rust_log", "a"),
        ("BOTTOKEN_FILE", "a"),
        ("no_proxy", "a"),
        ("ALL_PROXY", "http://proxy.test"),
        ("FTP_PROXY", "a"),
        ("PORTS", "a"),
        ("RUST_LOG", "info"),
    ]);
    let mut reader = Reader::new(&vars);
    RuntimeConfig::read(&mut reader);
    Proxies::read(&mut reader);
    reader.optional::<String>("KAFKA_BROKER_URL");
    reader.optional::<String>("PORT");
    reader.secret("BOT_TOKEN");
    let mut told = reader.settings().misspelt(&vars);
    told.sort_by(|a, b| a.key.cmp(&b.key));
    let told: Vec<_> = told.iter().map(|slip| (slip.key.as_str(), slip.meant.as_str())).collect();
    let expected = [
        ("BOTTOKEN_FILE", "BOT_TOKEN_FILE"),
        ("KAFKA_BROKER_URI", "KAFKA_BROKER_URL"),
        ("KAFKA_BROKRE_URL", "KAFKA_BROKER_URL"),
        ("rust_log", "RUST_LOG"),
    ];
    assert_eq!(told, expected);
}
