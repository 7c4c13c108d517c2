//! The architecture's rules that no compiler knows, kept by tests.

#![cfg(test)]

mod documents;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// Every file below `folder` whose name ends in `ending`, except what was built.
fn files(folder: impl AsRef<Path>, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && !["target", ".git", "node_modules"].contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The code of a file: without comments, and without its tests at the end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn services() -> Vec<String> {
    let folders = fs::read_dir(root().join("services")).expect("the services");
    folders.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
}

fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = read(manifest);
    let section = text.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).map(str::to_owned).collect()
}

#[test]
fn the_core_is_pure() {
    let impure = [
        "async ",
        ".await",
        "tokio",
        "sqlx",
        "rdkafka",
        "teloxide",
        "tracing",
        "reqwest",
        "Utc::now",
        "Instant::now",
        "SystemTime::now",
        "rand::",
    ];
    let mut seen = 0;
    for file in files("services", ".rs").into_iter().chain(files("crates", ".rs")) {
        // A test may make up a time to begin with.
        if !file.components().any(|part| part.as_os_str() == "core") || file.ends_with("tests.rs") {
            continue;
        }
        seen += 1;
        let code = code(&file);
        for word in impure {
            assert!(!code.contains(word), "{} names {word:?}: the core is pure", file.display());
        }
    }
    assert!(seen > 10, "only {seen} files of core/ were found: the test looks in the wrong place");
}

#[test]
fn only_kafka_names_rdkafka() {
    for manifest in files("services", "Cargo.toml").into_iter().chain(files("crates", "Cargo.toml")) {
        let name = manifest.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        let relative = manifest.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
        if !["kafka", "testkit"].contains(&name) {
            assert!(!dependencies(&relative).contains("rdkafka"), "{relative}: only crates/kafka names rdkafka");
        }
    }
}

#[test]
fn services_never_depend_on_services() {
    let services = services();
    for service in services.iter().filter(|service| *service != "flightbell") {
        let dependencies = dependencies(&format!("services/{service}/Cargo.toml"));
        for other in &services {
            assert!(!dependencies.contains(other), "{service} depends on {other}");
        }
    }
}

#[test]
fn crates_never_depend_on_services() {
    let services = services();
    for manifest in files("crates", "Cargo.toml") {
        let relative = manifest.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
        let dependencies = dependencies(&relative);
        assert!(services.iter().all(|service| !dependencies.contains(service)), "{relative} depends on a service");
    }
}

/// What each library crate may use of the others, from the bottom up: a crate uses only what stands above it.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("airports", &[]),
    ("events", &[]),
    ("proto", &[]),
    ("runtime", &[]),
    ("kafka", &["events", "runtime"]),
    ("pg", &["runtime"]),
    ("http-edge", &["pg", "runtime"]),
    ("grpc-edge", &["http-edge", "runtime"]),
    ("service", &["events", "http-edge", "runtime"]),
    ("local-servers", &[]),
    ("simulators", &["airports"]),
    ("rehearsal", &["airports", "runtime", "simulators"]),
    ("testkit", &["events", "kafka", "local-servers", "runtime"]),
];

#[test]
fn a_library_crate_uses_only_the_layers_below_it() {
    let known = |name: &str| ALLOWED.iter().position(|(other, _)| *other == name);
    let mut manifests = files("crates", "Cargo.toml");
    manifests.extend(files("proto", "Cargo.toml"));
    assert_eq!(manifests.len(), ALLOWED.len(), "each library crate has a row in ALLOWED");
    for manifest in manifests {
        let name = manifest.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        let place = known(name).unwrap_or_else(|| panic!("{name} has no row in ALLOWED"));
        let relative = manifest.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
        let used: BTreeSet<String> =
            dependencies(&relative).into_iter().filter(|dependency| known(dependency).is_some()).collect();
        let allowed: BTreeSet<String> = ALLOWED[place].1.iter().map(|other| (*other).to_owned()).collect();
        assert_eq!(used, allowed, "left: what {name} uses of our crates; right: what ALLOWED says");
        assert!(allowed.iter().all(|other| known(other) < Some(place)), "{name} uses what stands below it in ALLOWED");
    }
}

#[test]
fn every_main_is_a_page_of_plain_steps() {
    for main in files("services", "main.rs") {
        if main.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let lines = fs::read_to_string(&main).expect("a source file").lines().count();
        assert!(lines < 60, "{} has {lines} lines", main.display());
    }
}

#[test]
fn no_file_eats_the_project() {
    for file in files("services", ".rs").into_iter().chain(files("crates", ".rs")) {
        let lines = fs::read_to_string(&file).expect("a source file").lines().count();
        assert!(lines <= 800, "{} has {lines} lines: it wants to be two", file.display());
    }
}

#[test]
fn sql_lives_in_stores() {
    for service in services() {
        for file in files(format!("services/{service}/src"), ".rs") {
            let path = file.to_string_lossy().into_owned();
            let is_store = path.contains("/store.rs") || path.contains("/store/");
            let code = code(&file);
            assert!(is_store || !code.contains("sqlx::query"), "{path}: SQL lives in the service's store");
        }
    }
}

#[test]
fn the_tables_that_services_share_are_the_same_everywhere() {
    for table in ["leases", "idempotency_keys", "jobs"] {
        let mut shapes = BTreeSet::new();
        for file in files("migrations", ".sql") {
            let text = fs::read_to_string(&file).expect("a migration");
            let Some((_, rest)) = text.split_once(&format!("CREATE TABLE {table} (")) else { continue };
            let columns = rest.split(");").next().unwrap_or_default();
            shapes.insert(columns.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        assert_eq!(shapes.len(), 1, "{table} is made in several shapes: {shapes:#?}");
    }
}

#[test]
fn the_migrations_of_a_database_are_numbered_without_gaps_or_twins() {
    for folder in fs::read_dir(root().join("migrations")).expect("the migrations") {
        let folder = folder.expect("an entry").path();
        if !folder.is_dir() {
            continue;
        }
        for (file, number) in files(&folder, ".sql").iter().zip(1..) {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let begins = format!("{number:04}_");
            assert!(name.starts_with(&begins), "{} wants to begin with {begins}", file.display());
        }
    }
}

#[test]
fn every_crate_says_what_it_is_and_inherits_the_lints() {
    for manifest in files(".", "Cargo.toml") {
        if manifest.parent() == Some(&root()) {
            continue;
        }
        let text = fs::read_to_string(&manifest).expect("a manifest");
        assert!(text.contains("[lints]\nworkspace = true"), "{} does not inherit the lints", manifest.display());
        let library = manifest.parent().expect("a folder").join("src/lib.rs");
        if library.exists() {
            let first = fs::read_to_string(&library).expect("a library");
            assert!(first.starts_with("//!") || first.starts_with("#![doc"), "{} has no crate doc", library.display());
        }
    }
}

#[test]
fn the_tree_holds_no_path_of_a_machine() {
    let home = ["/", "root", "/"].concat();
    let work = ["/", "work", "/"].concat();
    for ending in [".rs", ".toml", ".sh", ".md", ".sql", ".json", "Makefile", ".yaml", ".html", ".js"] {
        for file in files(".", ending) {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            assert!(!text.contains(&home) && !text.contains(&work), "{} holds a machine's path", file.display());
        }
    }
}

/// Whether a text holds what looks like the token of a Telegram bot: its number, and 35 letters, digits, `-` or `_`.
fn holds_a_token(text: &str) -> bool {
    let is_secret = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.match_indices(':').any(|(at, _)| {
        let number = text[..at].bytes().rev().take_while(u8::is_ascii_digit).count();
        (8..=10).contains(&number) && text[at + 1..].bytes().take_while(|byte| is_secret(*byte)).count() == 35
    })
}

#[test]
fn the_tree_holds_no_private_key_and_no_token() {
    let key = ["-----BEGIN ", "PRIVATE KEY"].concat();
    let token = ["12345678", ":", &"a".repeat(35)].concat();
    assert!(holds_a_token(&token) && !holds_a_token("12:34:56 123456789:short"));
    let mut read = 0;
    for file in files(".", "") {
        // Where an operator's own are, which git ignores.
        let is_ignored = file.ends_with(".env") || file.parent() == Some(&root().join("secrets"));
        let Ok(text) = fs::read_to_string(&file) else { continue };
        if is_ignored {
            continue;
        }
        read += 1;
        let holds_key = text.contains(&key) || text.contains(&key.replace("PRIVATE", "EC PRIVATE"));
        assert!(!holds_key && !holds_a_token(&text), "{} holds a secret", file.display());
    }
    assert!(read > 500, "only {read} files were read");
}
