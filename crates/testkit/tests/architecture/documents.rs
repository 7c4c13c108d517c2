//! What the documents claim is so.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use events::topics::{TOPICS, Topic, days};

use super::{code, files, read, root, services};

/// The documents for people, from the root of the tree.
fn documents() -> Vec<PathBuf> {
    let within = |path: PathBuf| path.strip_prefix(root()).expect("it is in the tree").to_owned();
    files("", ".md").into_iter().map(within).collect()
}

/// The words of `text` that stand in backticks, outside blocks of code.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

/// The lines of the blocks of code in `text`.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2).flat_map(str::lines)
}

/// What stands under the README's heading, up to the next one.
fn section<'a>(readme: &'a str, heading: &str) -> &'a str {
    let (_, rest) = readme.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap_or_default()
}

/// The names in the first column of the table in `section`.
fn first_column(section: &str) -> BTreeSet<String> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    rows.flat_map(quoted).map(str::to_owned).collect()
}

/// The code that people run: without tests and what serves only tests.
fn shipped() -> Vec<(String, String)> {
    let all = files("services", ".rs").into_iter().chain(files("crates", ".rs")).chain(files("proto", ".rs"));
    let relative = |path: &Path| path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
    let shipped = all.map(|path| (relative(&path), code(&path)));
    let serves_people =
        |path: &str| path.contains("/src/") && !path.ends_with("_tests.rs") && !path.contains("testkit");
    shipped.filter(|(path, _)| serves_people(path)).collect()
}

/// The words in quotation marks in `code` that `is_wanted`, each with what stands before it.
fn literals(code: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<(&str, &str)> {
    let marks: Vec<usize> = code.match_indices('"').map(|(at, _)| at).collect();
    let between = marks.windows(2).map(|pair| (code[..pair[0]].trim_end(), &code[pair[0] + 1..pair[1]]));
    between.filter(|(_, word)| is_wanted(word)).collect()
}

fn is_key(word: &str) -> bool {
    let capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    word.contains('_') && word.starts_with(|first: char| first.is_ascii_uppercase()) && word.bytes().all(capital)
}

/// The environment keys that the code asks for. What it sets for another program is not among them.
fn keys_in_code() -> BTreeSet<String> {
    let sets = [".with(", ".with_default(", ".without(", ".env(", "env!(", "vec![("];
    // Names of other things, and the demo's list of keys that it does not use.
    let other = ["PG_VERSION", "SASL_PLAINTEXT", "SASL_SSL"];
    let of_the_system = ["XDG_CACHE_HOME", "XDG_DATA_HOME"];
    // Names of fault points, and of gRPC's codes.
    let have_other = ["crates/runtime/src/fault.rs", "crates/grpc-edge/src/metrics.rs"];
    let mut keys = BTreeSet::new();
    for (path, code) in shipped().iter().filter(|(path, _)| path != "services/flightbell/src/demo.rs") {
        for (before, key) in literals(code, is_key) {
            let is_file_of_secret = key.ends_with("_FILE") && key != "KAFKA_CA_FILE";
            let is_other = other.contains(&key) || of_the_system.contains(&key) || have_other.contains(&path.as_str());
            if !sets.iter().any(|set| before.ends_with(set)) && !is_other && !is_file_of_secret {
                keys.insert(key.to_owned());
            }
        }
    }
    keys.extend(databases().map(|database| format!("{}_DATABASE_URL", database.to_uppercase())));
    keys
}

/// The databases that `up` gives to services: each that has migrations has one of its name.
fn databases() -> impl Iterator<Item = String> {
    folders("migrations").into_iter().map(|service| service.replace('-', "_"))
}

#[test]
fn the_table_of_settings_names_what_the_code_reads_and_nothing_else() {
    let readme = read("README.md");
    let told = first_column(section(&readme, "Settings"));
    let read = keys_in_code();
    assert!(read.len() > 25, "only {read:?} were found: the test looks in the wrong place");
    assert_eq!(told, read, "left: the README's table; right: the code");
    for line in code_lines(&readme) {
        let Some((key, _)) = line.strip_prefix("export ").and_then(|rest| rest.split_once('=')) else { continue };
        assert!(told.contains(key) || readme.contains(&format!("${key}")), "nobody reads {key}");
    }
}

/// The names of metrics that the code makes.
fn metrics_in_code() -> BTreeSet<String> {
    let makes = ["Opts::new(", "Gauge::new(", "Counter::new(", "of_topic(", "of_group(", "gauge("];
    let is_name = |word: &str| word.contains('_') && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let shipped = shipped();
    let found = shipped.iter().flat_map(|(_, code)| literals(code, is_name));
    found
        .filter(|(before, _)| makes.iter().any(|make| before.ends_with(make)))
        .map(|(_, name)| name.to_owned())
        .collect()
}

#[test]
fn the_table_of_metrics_names_what_the_code_counts_and_nothing_else() {
    let told = first_column(section(&read("README.md"), "Prometheus metrics"));
    assert_eq!(told, metrics_in_code(), "left: the README's table; right: the code");
    assert!(told.len() > 15, "only {told:?}");
}

/// The targets of the Makefile.
fn targets(makefile: &str) -> BTreeSet<String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(is_plain);
    let named = makefile.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name);
    named.filter(|name| is_name(name)).map(str::to_owned).collect()
}

#[test]
fn every_make_target_that_is_named_exists_and_is_phony() {
    let makefile = read("Makefile");
    let targets = targets(&makefile);
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).expect("a list");
    assert_eq!(phony.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(), targets, "left: .PHONY");
    let ci = read(".ci/run");
    let mut named = 0;
    for document in documents() {
        let (text, document) = (read(&document), document.display());
        for line in quoted(&text).chain(code_lines(&text)).chain(ci.lines()) {
            let Some(rest) = line.strip_prefix("make ") else { continue };
            let target = rest.split_whitespace().next().unwrap_or_default();
            assert!(targets.contains(target), "{document} or .ci/run names make {target}");
            named += 1;
        }
    }
    assert!(named > 8, "only {named} were found: the test looks in the wrong place");
}

#[test]
fn the_map_shows_every_folder_and_the_ports_databases_and_topics_that_are_so() {
    let text = read("ARCHITECTURE.md");
    let map: Vec<&str> = text.split("```").nth(1).unwrap_or_default().lines().collect();
    for (parent, names) in [("services", services()), ("crates", folders("crates"))] {
        for name in names {
            assert!(
                map.iter().any(|line| line.starts_with(&format!("  {name}/ "))),
                "{parent}/{name} is not on the map"
            );
        }
    }
    // What tools keep in the root is no part of the project.
    let is_room = |name: &String| name == ".ci" || !(name.starts_with('.') || name.starts_with("target"));
    for name in folders("").into_iter().filter(is_room) {
        assert!(map.iter().any(|line| line.starts_with(&format!("{name}/ ")) || *line == format!("{name}/")), "{name}");
    }
    for line in &map {
        let Some((name, _)) = line.trim_start().split_once("/ ") else { continue };
        let parents = [".", "services", "crates"];
        assert!(parents.iter().any(|parent| root().join(parent).join(name).exists()), "{name} is on the map only");
        if services().iter().any(|service| service == name) {
            its_ports_and_database_are_so(name, line);
        }
    }
    for document in documents() {
        for topic in quoted(&read(&document)).filter(|word| word.starts_with("to-")) {
            assert!(TOPICS.iter().any(|row| row.name == topic), "{} names a topic {topic}", document.display());
        }
    }
}

/// A row of the table of topics as a document tells it.
fn told(row: &Topic) -> String {
    let days = row.retention.as_secs() / days(1).as_secs();
    let types: Vec<_> = row.event_types.iter().map(|kind| format!("`{kind}`")).collect();
    let groups = row.groups.iter().map(|group| match group.name == group.service {
        true => format!("`{}`", group.name),
        false => format!("`{}` of {}", group.name, group.service),
    });
    let groups: Vec<_> = groups.collect();
    let (name, owner, key) = (row.name, row.owner, row.key);
    format!("| `{name}` | {owner} | {key} | {days} days | {} | {} |", types.join(", "), groups.join(", "))
}

#[test]
fn the_table_of_topics_in_the_documents_is_the_table_in_the_code() {
    let text = read("ARCHITECTURE.md");
    let (_, rest) = text.split_once("\n| topic | owner | key |").expect("the table of topics");
    let rows: Vec<_> = rest.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows, TOPICS.iter().map(told).collect::<Vec<_>>(), "left: ARCHITECTURE.md; right: the code");
}

#[test]
fn only_the_table_names_a_topic() {
    for (path, code) in shipped().iter().filter(|(path, _)| path != "crates/events/src/topics.rs") {
        let named = literals(code, |word| TOPICS.iter().any(|row| row.name == word));
        assert!(named.is_empty(), "{path} names {named:?}: take it from the table of topics");
    }
}

fn folders(parent: &str) -> Vec<String> {
    let entries = root().join(parent).read_dir().expect("a folder").map(|entry| entry.expect("an entry").path());
    let folders = entries.filter(|path| path.is_dir());
    folders.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}

/// The ports in a service's line of the map are its defaults, and `up` gives it a database of that name.
fn its_ports_and_database_are_so(service: &str, line: &str) {
    let config = root().join(format!("services/{service}/src/config.rs"));
    let ports = ["HTTP ", "gRPC "].into_iter().filter_map(|kind| line.split_once(kind)?.1.get(..5));
    for port in ports.map(|port| port.trim_end_matches(',')) {
        assert!(code(&config).contains(&format!("[0, 0, 0, 0], {port})")), "{service} does not listen on {port}");
    }
    if let Some((_, database)) = line.split_once("database ") {
        assert!(databases().any(|known| known == database), "{service}'s database is not {database}");
    }
}

#[test]
fn the_readme_of_every_crate_and_service_says_where_to_look() {
    let crates = folders("crates").into_iter().map(|name| format!("crates/{name}"));
    for folder in crates.chain(services().into_iter().map(|name| format!("services/{name}"))) {
        let readme = read(format!("{folder}/README.md"));
        assert!(readme.contains("\n| to change | look in `src/` |\n"), "{folder}/README.md has no table \"to change\"");
    }
}

#[test]
fn every_file_and_program_that_is_named_is_there() {
    let mut named = 0;
    for document in documents() {
        let text = read(&document);
        let folder = root().join(&document).parent().expect("a file has a folder").to_owned();
        let document = document.display();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
        // What follows a # is a place in the file.
        let links = links.filter_map(|link| link.split('#').next());
        let parents = ["services/", "crates/", "packaging/", "migrations/", "docs/", "proto/"];
        let paths = quoted(&text).filter(|word| parents.iter().any(|parent| word.starts_with(parent)));
        // A link begins in its document's folder, a path in a sentence at the root.
        for path in links.map(|link| folder.join(link)).chain(paths.map(|path| root().join(path))) {
            assert!(path.exists(), "{document} names {}", path.display());
            named += 1;
        }
        // The table in a crate's README says where to look in its `src/`.
        let source = folder.join("src");
        let is_source = |word: &&str| word.ends_with(".rs") && !parents.iter().any(|parent| word.starts_with(parent));
        for path in quoted(&text).filter(|_| source.exists()).filter(is_source) {
            assert!(source.join(path).exists(), "{document} names src/{path}");
            named += 1;
        }
        for program in text.split("target/debug/").skip(1) {
            let name: String = program.chars().take_while(|next| next.is_ascii_lowercase() || *next == '-').collect();
            assert!(services().contains(&name), "{document} names a program {name}");
        }
        for anchor in text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            let headings = text.lines().filter(|line| line.starts_with('#'));
            let mut anchors = headings.map(|line| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-"));
            assert!(anchors.any(|known| known == anchor), "{document} points to #{anchor}");
        }
    }
    assert!(named > 15, "only {named} were found: the test looks in the wrong place");
}
