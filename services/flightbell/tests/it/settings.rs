//! The settings in effect and the addresses that are bound stand in the log, and nothing secret does.

use serde_json::Value;
use testkit::Process;

use crate::{
    commands::run,
    deployment::folder,
    program::{self, PATIENCE},
};

/// The environment of a notifier whose database and Kafka are away, with a secret at every place where one may be.
fn with_secrets(token_file: &str) -> Vec<(&'static str, String)> {
    let set = [
        ("DATABASE_URL", "postgres://lovelace:hush@127.0.0.1:1/notifier?password=hush"),
        ("KAFKA_BROKER_URL", "127.0.0.1:1"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "lovelace"),
        ("KAFKA_SASL_PASSWORD", "hush"),
        ("USER_MANAGER_GRPC_URL", "http://127.0.0.1:1"),
        ("TELEGRAM_BOT_TOKEN_FILE", token_file),
        ("TELEGRAM_API_URL", "http://lovelace:hush@127.0.0.1:1/hush"),
        ("HTTPS_PROXY", "socks5h://lovelace:hush@proxy.test:1080"),
        ("GRPC_ADDR", "127.0.0.1:0"),
        ("ADMIN_ADDR", "127.0.0.1:0"),
        ("TELEGRAM_MESSAGES_PER_SECONDS", "5"),
    ];
    set.map(|(key, value)| (key, value.to_owned())).into()
}

/// The log of a process once it says that it listens on so many addresses, and has stopped.
async fn log_of(process: Process, addresses: usize) -> String {
    let listens = async || process.log().matches("listening on").count() >= addresses;
    testkit::wait_for("it to listen", PATIENCE, listens).await;
    process.stop().await
}

#[tokio::test]
async fn a_process_logs_its_settings_and_where_it_listens_once_and_no_secret() {
    let parent = folder();
    let token = parent.path().join("token");
    std::fs::write(&token, "1:hush\n").expect("write the token");
    let token = token.display().to_string();
    for format in ["text", "json"] {
        let mut environment = with_secrets(&token);
        environment.push(("LOG_FORMAT", format.to_owned()));
        let log = log_of(program::start("notifier", &[], &environment).await, 2).await;
        let said = |words: &str| {
            let lines: Vec<_> = log.lines().filter(|line| line.contains(words)).collect();
            assert_eq!(lines.len(), 1, "{words:?} in\n{log}");
            lines[0].to_owned()
        };
        let settings = said("settings of notifier: environment: ");
        let expected = [
            "DATABASE_URL=postgres://***@127.0.0.1:1/notifier?***",
            "HTTPS_PROXY=socks5h://***@proxy.test:1080",
            "KAFKA_SASL_PASSWORD=***",
            "KAFKA_SASL_USERNAME=***",
            "TELEGRAM_API_URL=http://***@127.0.0.1:1/***",
            "; default: ",
            "TELEGRAM_MESSAGES_PER_SECOND=30",
            "; not set: ",
        ];
        for words in expected {
            assert!(settings.contains(words), "{words:?} is not in {settings}");
        }
        assert!(settings.contains("file: TELEGRAM_BOT_TOKEN=***;"), "{settings}");
        let slip = said("TELEGRAM_MESSAGES_PER_SECONDS is set");
        assert!(slip.contains("WARN") && slip.contains("TELEGRAM_MESSAGES_PER_SECOND is one"), "{slip}");
        for protocol in ["gRPC", "probes and metrics"] {
            let listening = said(protocol);
            assert!(listening.contains("listening on 127.0.0.1:") && listening.contains("notifier"), "{listening}");
        }
        assert!(!log.contains("hush") && !log.contains("lovelace"), "{log}");
        if format == "json" {
            let line: Value = serde_json::from_str(&settings).expect("JSON");
            let message = line["fields"]["message"].as_str().expect("a message");
            assert!(line["level"] == "INFO" && message.starts_with("settings of notifier: "), "{line}");
        }
    }
}

#[tokio::test]
async fn the_gateway_logs_every_address_that_it_bound() {
    let parent = folder();
    let certificates = parent.path().display().to_string();
    let arguments =
        ["gateway", "--listen", "127.0.0.1:0", "--listen-http", "127.0.0.1:0", "--certificates", certificates.as_str()];
    let environment = [("ADMIN_ADDR", "127.0.0.1:0".to_owned())];
    let log = log_of(program::start("flightbell", &arguments, &environment).await, 3).await;
    assert!(
        log.contains("settings of gateway: environment: ADMIN_ADDR=127.0.0.1:0; default: LAME_DUCK_SECONDS=0 LOG"),
        "{log}"
    );
    for protocol in ["HTTPS", "redirects to HTTPS", "probes and metrics"] {
        let said = format!("service=\"gateway\" protocol=\"{protocol}\"");
        assert_eq!(log.matches(&said).count(), 1, "{said} in\n{log}");
    }
}

#[tokio::test]
async fn doctor_prints_each_setting_once_with_its_origin_and_no_secret_also_when_some_cannot_be_used() {
    let parent = folder();
    let token = parent.path().join("token");
    std::fs::write(&token, "1:hush\n").expect("write the token");
    let nobody = "http://127.0.0.1:1";
    let environment = [
        ("HOME", parent.path().display().to_string()),
        ("OPEN_SKY_API_URL", nobody.to_owned()),
        ("OPEN_SKY_CLIENT_ID", "lovelace".to_owned()),
        ("OPEN_SKY_CLIENT_SECRET", "hush".to_owned()),
        ("TELEGRAM_API_URL", nobody.to_owned()),
        ("TELEGRAM_BOT_TOKEN_FILE", token.display().to_string()),
        ("NOTIFIER_DATABASE_URL", "postgres://lovelace:hush@127.0.0.1:1/notifier".to_owned()),
        ("RETENTION_DAYS", "many".to_owned()),
        ("KAFKA_BROKER_URI", "127.0.0.1:1".to_owned()),
    ];
    let (code, said) = run(&["doctor"], &environment).await;
    assert_eq!(code, 1, "{said}");
    let expected = [
        "\nsettings of flightbell, user-manager, data-collector, alert-system, notifier\n",
        "  ADMIN_ADDR=127.0.0.1:0 (given by up)\n",
        "  LOG_FORMAT=text (default)\n",
        "  DATABASE_URL=<private> (given by up)\n",
        "  KAFKA_BROKER_URL=<private> (given by up)\n",
        "\nsettings of data-collector\n",
        "  OPEN_SKY_CLIENT_ID=*** (environment)\n",
        "  OPEN_SKY_CLIENT_SECRET=*** (environment)\n",
        "  RETENTION_DAYS=many (environment)\n",
        "  TELEGRAM_BOT_TOKEN=*** (file)\n",
        "  HTTPS_PROXY is not set\n",
        "  NOTIFIER_DATABASE_URL=postgres://***@127.0.0.1:1/notifier (environment)\n",
        "note   settings         KAFKA_BROKER_URI is set, and no setting is called so: KAFKA_BROKER_URL is one\n",
        "mend: set KAFKA_BROKER_URL, and unset KAFKA_BROKER_URI\n",
        "WRONG  settings         RETENTION_DAYS=\"many\"",
    ];
    for words in expected {
        assert_eq!(said.matches(words).count(), 1, "{words:?} in\n{said}");
    }
    assert!(!said.contains("hush") && !said.contains("lovelace"), "{said}");
}
