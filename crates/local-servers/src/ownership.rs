//! Modes and owners of a server's folders, as a copy of the data directory may have lost them.
//!
//! `cp -r` gives every file to the user who copies, with the modes of that user's umask. PostgreSQL refuses a cluster
//! that others can read or that belongs to another user, and Kafka cannot write what is not its own.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, ErrorContext},
    layout::{broker_log_of, cluster_of},
    run_as::RunAs,
};

/// What others than the owner may not have in a cluster: PostgreSQL allows its group to read.
const OF_OTHERS: u32 = 0o027;

/// A folder that a server could not use as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The folder.
    pub folder: PathBuf,
    /// What is wrong with it.
    pub says: String,
    /// The command that mends it; none when the next start does.
    pub command: Option<String>,
}

/// What keeps the servers from using the folders in `data_dir`, without changing anything.
///
/// # Errors
/// [`Error::NoServerUser`].
pub fn obstacles(data_dir: &Path) -> Result<Vec<Obstacle>, Error> {
    let run_as = RunAs::find()?;
    let cluster = cluster_of(data_dir);
    let mut found: Vec<_> =
        [&cluster, &broker_log_of(data_dir)].into_iter().filter_map(|folder| owner(&run_as, folder)).collect();
    let is_another_s = found.iter().any(|obstacle| obstacle.folder == cluster && obstacle.command.is_some());
    if let Some(mode) = open_mode(&cluster).filter(|_| !is_another_s) {
        let says = format!("{} has the mode {mode:04o}, and PostgreSQL wants 0700", cluster.display());
        found.push(Obstacle { folder: cluster, says, command: None });
    }
    Ok(found)
}

/// Makes the cluster in `folder` one that PostgreSQL takes.
pub(crate) fn mend_cluster(run_as: &RunAs, folder: &Path) -> Result<(), Error> {
    mend_owner(run_as, folder)?;
    if let Some(mode) = open_mode(folder) {
        tracing::info!("{} has the mode {mode:04o}, as a copy may have: now 0700", folder.display());
        let closed = fs::set_permissions(folder, Permissions::from_mode(0o700));
        closed.context(|| format!("run `chmod 0700 {}`, as PostgreSQL wants it", folder.display()))?;
    }
    Ok(())
}

/// Gives `folder` and all that is in it to the servers' user, where it belongs to another one and we
/// may; says the command otherwise.
pub(crate) fn mend_owner(run_as: &RunAs, folder: &Path) -> Result<(), Error> {
    let Some(obstacle) = owner(run_as, folder) else { return Ok(()) };
    if let Some(command) = obstacle.command {
        return Err(Error::OtherOwner { folder: obstacle.folder, command });
    }
    tracing::info!("{}: now it does not, with all that is in it", obstacle.says);
    give(folder, run_as.uid(), run_as.gid())
}

fn owner(run_as: &RunAs, folder: &Path) -> Option<Obstacle> {
    let meta = fs::metadata(folder).ok()?;
    if meta.uid() == run_as.uid() {
        return None;
    }
    let says =
        format!("{} belongs to user {}, and the servers run as user {}", folder.display(), meta.uid(), run_as.uid());
    let command = (!run_as.is_other()).then(|| format!("sudo chown -R {} {}", run_as.uid(), folder.display()));
    Some(Obstacle { folder: folder.to_owned(), says, command })
}

fn open_mode(folder: &Path) -> Option<u32> {
    let mode = fs::metadata(folder).ok()?.permissions().mode() & 0o7777;
    (mode & OF_OTHERS != 0).then_some(mode)
}

/// Links are given away themselves, and not what they lead to.
fn give(path: &Path, uid: u32, gid: u32) -> Result<(), Error> {
    let context = || format!("give {} to user {uid}", path.display());
    if fs::symlink_metadata(path).context(context)?.is_dir() {
        for entry in fs::read_dir(path).context(context)? {
            give(&entry.context(context)?.path(), uid, gid)?;
        }
    }
    lchown(path, Some(uid), Some(gid)).context(context)
}
