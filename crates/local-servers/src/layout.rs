//! Where a server's files lie in a data directory.

use std::path::{Path, PathBuf};

/// PostgreSQL's cluster.
pub(crate) fn cluster_of(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres/data")
}

/// The records of a lone broker.
pub(crate) fn broker_log_of(data_dir: &Path) -> PathBuf {
    data_dir.join("kafka/data")
}
