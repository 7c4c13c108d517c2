//! What the README says of commands and settings is so.

use std::collections::{BTreeSet, HashMap};

use crate::{cli::command, effective::Effective, services::SERVICES, settings::ExternalServers};

const README: &str = include_str!("../../../README.md");

/// Options of other programs.
const OF_OTHERS: [&str; 1] = ["--cacert"];

/// Whatever stands in backticks or in a block of code, line by line.
fn code() -> Vec<&'static str> {
    let blocks = README.split("```").skip(1).step_by(2).flat_map(str::lines);
    let quoted = README.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
    blocks.chain(quoted).collect()
}

fn options(command: &clap::Command) -> BTreeSet<String> {
    let longs = command.get_arguments().filter_map(clap::Arg::get_long);
    longs.map(|long| format!("--{long}")).chain(["--version".to_owned()]).collect()
}

/// Whether `words` name a command, and after it only what belongs to it.
fn check(command: &clap::Command, words: &[&str]) {
    let (Some(name), rest) = (words.first(), words.get(1..).unwrap_or_default()) else { return };
    let Some(command) = command.find_subcommand(name) else {
        assert!(options(command).contains(*name), "`flightbell` knows no {name}");
        return;
    };
    if command.has_subcommands() {
        check(command, rest);
    }
    for option in rest.iter().filter(|word| word.starts_with("--")) {
        assert!(options(command).contains(*option), "`flightbell {name}` knows no {option}");
    }
}

#[test]
fn commands_and_options_that_are_named_exist_and_every_command_is_named() {
    let program = command(SERVICES);
    let mut named = 0;
    for line in code() {
        let line = line.split(" #").next().unwrap_or_default().replace('\n', " ");
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some((first, rest)) = words.split_first()
            && (*first == "flightbell" || first.ends_with("/flightbell"))
        {
            check(&program, rest);
            named += 1;
        }
        let option = words.first().filter(|word| word.starts_with("--") && !OF_OTHERS.contains(word));
        let mut of_any = program.get_subcommands().flat_map(options);
        assert!(option.is_none_or(|option| of_any.any(|known| known == *option)), "nothing knows {line}");
    }
    assert!(named > 5, "only {named} were found: the test looks in the wrong place");
    let words: BTreeSet<&str> = code().into_iter().flat_map(str::split_whitespace).collect();
    for command in program.get_subcommands().flat_map(|command| command.get_subcommands().chain([command])) {
        assert!(words.contains(command.get_name()), "the README does not name {}", command.get_name());
    }
}

/// The README's row about a setting.
fn row(key: &str) -> &'static str {
    let of_key =
        |line: &&str| line.starts_with("| ") && line.split(" | ").next().is_some_and(|keys| keys.contains(key));
    README.lines().find(of_key).unwrap_or_else(|| panic!("no row for {key}"))
}

#[test]
fn every_setting_of_the_table_is_among_those_that_are_shown() {
    let section = README.split("\n## ").find(|section| section.starts_with("Settings\n")).expect("a section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let told: BTreeSet<&str> =
        rows.flat_map(|keys| keys.split([' ', ',', '`'])).filter(|key| !key.is_empty()).collect();
    assert!(told.len() > 30, "only {told:?} were found: the test looks in the wrong place");
    let nothing: HashMap<String, String> = HashMap::new();
    let effective = Effective::of(SERVICES, &nothing, &ExternalServers::read_leniently(SERVICES, &nothing));
    let shown = effective.groups.iter().flat_map(|group| group.settings.iter().map(|(key, _)| key));
    assert_eq!(shown.collect::<BTreeSet<_>>(), told, "left: what is shown; right: the README's table");
    let all: HashMap<String, String> = told.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect();
    let effective = Effective::of(SERVICES, &all, &ExternalServers::read_leniently(SERVICES, &all));
    assert!(effective.misspelt.is_empty(), "almost another setting: {:?}", effective.misspelt);
}

#[test]
fn the_defaults_that_are_named_are_those_of_the_code() {
    let vars: HashMap<String, String> = [
        ("DATABASE_URL", "postgres://localhost/a"),
        ("KAFKA_BROKER_URL", "localhost:9092"),
        ("TELEGRAM_BOT_TOKEN", "1:a"),
        ("USER_MANAGER_GRPC_URL", "http://localhost:1"),
        ("DATA_COLLECTOR_GRPC_URL", "http://localhost:1"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let users = user_manager::Config::from_vars(&vars).expect("a configuration");
    let collector = data_collector::Config::from_vars(&vars).expect("a configuration");
    let notifier = notifier::Config::from_vars(&vars).expect("a configuration");
    let (sending, kafka) = (&notifier.sending, &notifier.kafka);
    let expected = [
        (
            "DATABASE_POOL_SIZE",
            format!("default {} and {};", users.database.pool_size, users.database.background_pool_size),
        ),
        ("KAFKA_PARTITIONS", format!("default {} and {}", kafka.partitions, kafka.replication)),
        ("DEAD_LETTER_RUN_LIMIT", format!("default {} |", kafka.dead_letter_run_limit)),
        ("COLLECT_INTERVAL_SECONDS", format!("default {};", collector.collect_interval.as_secs())),
        ("INTERESTS_PER_USER", format!("default {} ", collector.interests_per_user)),
        ("RETENTION_DAYS", format!("default {} ", collector.retention_days)),
        ("TELEGRAM_MESSAGES", format!("default {}, and {} for groups", sending.per_second, sending.group_per_minute)),
        ("HTTP_ADDR", format!("{}, ", users.http_addr.addr().expect("an address"))),
        ("HTTP_ADDR", format!("{} to 50053, ", users.grpc_addr.addr().expect("an address"))),
        ("HTTP_ADDR", format!("{} (", users.runtime.admin_addr)),
    ];
    for (key, words) in expected {
        assert!(row(key).contains(&words), "{key}: the default is {words:?}, and the README says\n{}", row(key));
    }
    assert_eq!(notifier.grpc.addr().expect("an address").port(), 50053);
    assert_eq!(collector.http.addr().expect("an address"), users.http_addr.addr().expect("an address"));
}
