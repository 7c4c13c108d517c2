//! Orphans: servers that outlived us.
//!
//! A SIGKILL of ours leaves the servers running. They are found in the system's table of processes
//! by what they were started as. A pid file is not trusted for this: pids are used again, so one
//! may name a stranger.

use std::path::Path;

use crate::{error::Error, processes::processes};

/// A running server that no process watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// `PostgreSQL` or `Kafka`.
    pub server: &'static str,
    /// Its process.
    pub pid: u32,
}

/// The servers that run in `data_dir`. When no process holds the directory's lock, they are left over; the next `up`
/// stops them first.
///
/// # Errors
/// When the processes cannot be listed.
pub async fn running(data_dir: &Path) -> Result<Vec<Orphan>, Error> {
    let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    let (data, properties) = (crate::layout::cluster_of(&data_dir), crate::kafka::properties_of(&data_dir, "kafka"));
    let found = processes().await?.into_iter().filter_map(|(pid, line)| {
        let server = match () {
            () if line.is_postgres_of(&data) => "PostgreSQL",
            () if line.is_kafka_of(&properties) => "Kafka",
            () => return None,
        };
        Some(Orphan { server, pid })
    });
    Ok(found.collect())
}

/// Ends the servers that run in `data_dir`, in good order where they obey. The caller holds the directory's lock, so
/// that no other process watches them.
///
/// # Errors
/// When the processes cannot be listed, or one does not end.
pub async fn stop_all(data_dir: &Path) -> Result<(), Error> {
    let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    crate::kafka::stop_orphan(&data_dir, "kafka").await?;
    crate::postgres::stop_orphan(&data_dir).await
}
