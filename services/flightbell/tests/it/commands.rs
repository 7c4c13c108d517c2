use crate::{deployment::folder, program};

/// The exit code of a command that ends by itself, and everything it said.
pub async fn run(arguments: &[&str], environment: &[(&str, String)]) -> (i32, String) {
    let mut program = program::start("flightbell", arguments, environment).await;
    let code = program.code().await;
    (code, format!("{}\n{}", program.out(), program.log()))
}

#[tokio::test]
async fn every_wrong_setting_is_told_at_once_and_nothing_is_made() {
    let parent = folder();
    let data = parent.path().join("data");
    let environment = [
        ("COLLECT_INTERVAL_SECONDS", "soon".to_owned()),
        ("KAFKA_PARTITIONS", "0".to_owned()),
        ("NOTIFIER_DATABASE_URL", "postgres://localhost/notifier".to_owned()),
        ("LOG_FORMAT", "xml".to_owned()),
        ("XDG_CACHE_HOME", parent.path().display().to_string()),
    ];
    let (code, said) = run(&["up", "--data-dir", &data.display().to_string()], &environment).await;
    assert_eq!(code, 2, "{said}");
    let expected = [
        "COLLECT_INTERVAL_SECONDS",
        "KAFKA_PARTITIONS",
        "USER_MANAGER_DATABASE_URL",
        "LOG_FORMAT",
        "TELEGRAM_BOT_TOKEN",
    ];
    for key in expected {
        assert!(said.contains(key), "{key} is not named in\n{said}");
    }
    assert!(!data.exists(), "nothing is touched before the settings are right");
}

#[tokio::test]
async fn wrong_arguments_and_wrong_settings_are_told_together_and_each_under_its_own_name() {
    let environment = [
        ("USER_MANAGER_DATABASE_URL", "mysql://a".to_owned()),
        ("DATA_COLLECTOR_DATABASE_URL", "b".to_owned()),
        ("ALERT_SYSTEM_DATABASE_URL", "postgres://localhost/c".to_owned()),
        ("NOTIFIER_DATABASE_URL", "d".to_owned()),
    ];
    let (code, said) = run(&["up", "--listen", "0.0.0.0:0"], &environment).await;
    assert_eq!(code, 2, "{said}");
    let expected = [
        "--insecure-open",
        "--data-dir",
        "- USER_MANAGER_DATABASE_URL",
        "- DATA_COLLECTOR_DATABASE_URL",
        "- NOTIFIER_DATABASE_URL",
        "TELEGRAM_BOT_TOKEN",
    ];
    for words in expected {
        assert!(said.contains(words), "{words} is not named in\n{said}");
    }
    assert!(!said.contains("ALERT_SYSTEM_DATABASE_URL"), "{said}");
}

#[tokio::test]
async fn everything_the_machine_lacks_is_told_at_once_and_before_anything_is_made() {
    let parent = folder();
    let data = parent.path().join("data");
    let environment = [
        ("HOME", parent.path().display().to_string()),
        ("KAFKA_HOME", parent.path().display().to_string()),
        ("JAVA_HOME", parent.path().display().to_string()),
        ("TELEGRAM_BOT_TOKEN", "1:x".to_owned()),
    ];
    let arguments = ["up", "--data-dir", &data.display().to_string(), "--listen", "127.0.0.1:0"];
    let (code, said) = run(&arguments, &environment).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("JAVA_HOME=") && said.contains("Kafka's jars were not found"), "{said}");
    assert!(!data.join("postgres").exists() && !data.join("kafka").exists());
}

#[tokio::test]
async fn an_address_that_others_reach_is_refused_with_the_reason() {
    for command in ["up", "demo", "gateway"] {
        let (code, said) = run(&[command, "--listen", "0.0.0.0:0"], &[("HOME", "/nonexistent".to_owned())]).await;
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("--insecure-open") && said.contains("sign in"), "{said}");
    }
}

#[tokio::test]
async fn wrong_arguments_end_with_2_and_the_version_with_0() {
    assert_eq!(run(&["fly"], &[]).await.0, 2);
    assert_eq!(run(&["demo", "--speed", "0"], &[]).await.0, 2);
    let (code, said) = run(&["--version"], &[]).await;
    assert_eq!(code, 0);
    assert!(said.starts_with("flightbell 0.1.0"), "{said}");
    let (code, said) = run(&["--help"], &[]).await;
    assert_eq!(code, 0);
    assert!(said.contains("Exit codes"), "{said}");
}

#[tokio::test]
async fn dlq_without_a_kafka_says_how_to_name_one() {
    let parent = folder();
    let (code, said) = run(&["dlq", "list", "--data-dir", &parent.path().display().to_string()], &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("KAFKA_BROKER_URL") && said.contains("--data-dir"), "{said}");
    let environment = [("KAFKA_BROKER_URL", "127.0.0.1:1".to_owned())];
    let (code, said) = run(&["dlq", "list", "--topic", "elsewhere"], &environment).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("elsewhere: there are to-alert-system") && said.contains("and to-notifier"), "{said}");
}
