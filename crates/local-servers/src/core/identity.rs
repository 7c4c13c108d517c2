//! Which process is a server of ours.
//!
//! A pid says nothing by itself, since pids are used again. What a process was started as does: the
//! servers name the folder they work in among their arguments.

use std::{collections::HashMap, path::Path};

/// What a process was started as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandLine {
    /// The arguments one by one (Linux).
    Arguments(Vec<String>),
    /// The arguments with spaces between (what `ps` tells elsewhere).
    Joined(String),
}

/// A process as the system lists it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) pid: u32,
    /// The process that started it.
    pub(crate) parent: u32,
    pub(crate) line: CommandLine,
}

/// Without the processes that were started as the same as their parent: what a server has forked
/// looks like the server itself until it has given itself a name of its own.
pub(crate) fn without_forks(entries: Vec<Entry>) -> Vec<Entry> {
    let lines: HashMap<u32, CommandLine> = entries.iter().map(|entry| (entry.pid, entry.line.clone())).collect();
    entries.into_iter().filter(|entry| lines.get(&entry.parent) != Some(&entry.line)).collect()
}

/// The class that is Kafka's `main`.
pub(crate) const KAFKA_MAIN: &str = "kafka.Kafka";

impl CommandLine {
    /// Whether this is the PostgreSQL server of the cluster in `data`, started as `postgres -D data …`.
    pub(crate) fn is_postgres_of(&self, data: &Path) -> bool {
        let data = data.to_string_lossy();
        match self {
            Self::Arguments(arguments) => {
                let [program, flag, folder, ..] = arguments.as_slice() else { return false };
                Path::new(program).file_name().is_some_and(|name| name == "postgres") && flag == "-D" && *folder == data
            }
            Self::Joined(line) => {
                let Some((program, rest)) = line.split_once(" -D ") else { return false };
                program.ends_with("postgres") && rest.starts_with(&format!("{data} "))
            }
        }
    }

    /// Whether this is the broker that was started with the settings in `properties`.
    pub(crate) fn is_kafka_of(&self, properties: &Path) -> bool {
        let properties = properties.to_string_lossy();
        match self {
            Self::Arguments(arguments) => {
                matches!(arguments.as_slice(), [.., main, settings] if main == KAFKA_MAIN && *settings == properties)
            }
            Self::Joined(line) => line.ends_with(&format!(" {KAFKA_MAIN} {properties}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(arguments: &[&str]) -> [CommandLine; 2] {
        let exact = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        [CommandLine::Arguments(exact), CommandLine::Joined(arguments.join(" "))]
    }

    #[test]
    fn a_server_is_known_by_the_folder_it_was_started_with() {
        for line in both(&["/usr/lib/postgresql/15/bin/postgres", "-D", "/a/data", "-k", "/a/run"]) {
            assert!(line.is_postgres_of(Path::new("/a/data")));
            assert!(!line.is_postgres_of(Path::new("/a/dat")));
            assert!(!line.is_postgres_of(Path::new("/a")));
        }
        for line in both(&["java", "-Xmx96m", "kafka.Kafka", "/a/server.properties"]) {
            assert!(line.is_kafka_of(Path::new("/a/server.properties")));
            assert!(!line.is_kafka_of(Path::new("/server.properties")));
        }
    }

    #[test]
    fn a_program_that_only_looks_at_the_folder_is_not_a_server() {
        for line in both(&["vim", "/a/server.properties"]) {
            assert!(!line.is_kafka_of(Path::new("/a/server.properties")));
        }
        for line in both(&["ls", "-D", "/a/data", "-l"]) {
            assert!(!line.is_postgres_of(Path::new("/a/data")));
        }
    }
}
