use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
};

use local_servers::{DataDir, Discovery, check_user, free_bytes, orphans, ownership};

use super::finding::Finding;
use crate::{settings::ExternalServers, up::LEAST_FREE};

/// The programs, folders and ports of this machine.
///
/// `is_held`: a process holds the data directory, so its servers and the port may well be its own.
pub(super) async fn check(
    discovery: &Discovery,
    external: &ExternalServers,
    folder: &Path,
    is_held: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if external.databases.is_none() {
        findings.push(postgres(discovery, folder).await);
        findings.extend(check_user(folder).err().map(|error| Finding::told("user", &error)));
    }
    if external.kafka.is_none() {
        findings.push(java(discovery).await);
        findings.push(kafka(discovery));
    }
    findings.push(data_dir(folder));
    findings.extend(of_a_copy(folder));
    findings.push(disk(folder));
    if !is_held {
        findings.push(left_over(folder).await);
        findings.push(port());
    }
    findings
}

async fn postgres(discovery: &Discovery, folder: &Path) -> Finding {
    match discovery.postgres(Some(&folder.join("postgres/data"))).await {
        Ok(found) => Finding::fine("postgresql", format!("version {} in {}", found.version, found.folder.display())),
        Err(error) => Finding::told("postgresql", &error),
    }
}

async fn java(discovery: &Discovery) -> Finding {
    match discovery.java().await {
        Ok(found) => Finding::fine("java", format!("version {} at {}", found.version, found.program.display())),
        Err(error) => Finding::told("java", &error),
    }
}

fn kafka(discovery: &Discovery) -> Finding {
    match discovery.kafka() {
        Ok(found) => Finding::fine("kafka", format!("version {} in {}", found.version, found.home.display())),
        Err(error) => Finding::told("kafka", &error),
    }
}

/// Whether the folder, or the nearest one above it that exists, can be written.
fn data_dir(folder: &Path) -> Finding {
    let Some(there) = folder.ancestors().find(|ancestor| ancestor.exists()) else {
        return Finding::wrong(
            "data directory",
            format!("{} has no parent", folder.display()),
            "choose another --data-dir",
        );
    };
    if !there.is_dir() {
        let says = format!("{} is no folder", there.display());
        return Finding::wrong("data directory", says, "choose another --data-dir");
    }
    if rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
        let mend = format!("choose another --data-dir, or as root: chown \"$USER\" {}", there.display());
        return Finding::wrong("data directory", format!("{} cannot be written", there.display()), mend);
    }
    if let Err(error) = DataDir::check_reach(folder) {
        return Finding::told("data directory", &error);
    }
    let state = if there == folder { "is there" } else { "will be made at the first start" };
    Finding::fine("data directory", format!("{} {state}", folder.display()))
}

/// Owners and modes that a copy of a data directory has lost.
fn of_a_copy(folder: &Path) -> Vec<Finding> {
    // Without a user for the servers nothing can be said here, and something is said elsewhere.
    let obstacles = ownership::obstacles(folder).unwrap_or_default();
    let found = obstacles.into_iter().map(|obstacle| match obstacle.command {
        Some(command) => Finding::wrong("data directory", obstacle.says, command),
        None => {
            let mend = format!("flightbell up --data-dir {}: the next start mends it", folder.display());
            Finding::note("data directory", obstacle.says, mend)
        }
    });
    found.collect()
}

fn disk(folder: &Path) -> Finding {
    let there = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(folder);
    match free_bytes(there) {
        Ok(free) if free < LEAST_FREE => Finding::wrong(
            "disk",
            format!("{} MiB are free at {}, and 1024 are needed", free >> 20, there.display()),
            "make room there, or choose another --data-dir",
        ),
        Ok(free) => Finding::fine("disk", format!("{} MiB are free at {}", free >> 20, there.display())),
        Err(error) => Finding::told("disk", &error),
    }
}

async fn left_over(folder: &Path) -> Finding {
    if !folder.exists() {
        return Finding::fine("left over", "no servers of a killed run");
    }
    match orphans::running(folder).await {
        Ok(left) if left.is_empty() => Finding::fine("left over", "no servers of a killed run"),
        Ok(left) => {
            let names: Vec<_> = left.iter().map(|left| format!("{} (process {})", left.server, left.pid)).collect();
            Finding::note(
                "left over",
                format!("a killed run left {} running", names.join(" and ")),
                format!("flightbell up --data-dir {}: the next start stops them first", folder.display()),
            )
        }
        Err(error) => Finding::told("left over", &error),
    }
}

/// The default address; an operator who chose another knows it.
fn port() -> Finding {
    let addr = SocketAddr::from(([127, 0, 0, 1], 8443));
    match TcpListener::bind(addr) {
        Ok(_) => Finding::fine("port", format!("{addr} is free")),
        Err(error) => {
            Finding::note("port", format!("{addr} cannot be bound: {error}"), "flightbell up --listen 127.0.0.1:PORT")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn a_copy_whose_modes_are_lost_is_named_with_what_mends_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = folder.path().join("postgres/data");
        std::fs::create_dir_all(&cluster).expect("a cluster");
        std::fs::set_permissions(&cluster, std::fs::Permissions::from_mode(0o755)).expect("opened");
        let said: Vec<_> = of_a_copy(folder.path()).iter().map(ToString::to_string).collect();
        let said = said.join("\n");
        assert!(said.contains("0755") && said.contains("0700"), "{said}");
        assert!(said.contains("mend: flightbell up --data-dir") && said.contains("the next start mends it"), "{said}");
    }

    #[test]
    fn a_file_is_no_data_directory_nor_is_anything_in_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for folder in [file.path().to_owned(), file.path().join("data")] {
            let finding = data_dir(&folder);
            assert!(finding.severity == Severity::Wrong && finding.to_string().contains("is no folder"), "{finding}");
        }
    }
}
