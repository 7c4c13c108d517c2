//! The user that the servers run as.
//!
//! PostgreSQL refuses to run as root. Started by root, both servers run as the `postgres` user of
//! PostgreSQL's package; started by anybody else, as that one.

use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use nix::unistd::User;
use tokio::process::Command;

use crate::error::{Error, ErrorContext};

const USER: &str = "postgres";
/// English messages, and file names in UTF-8: Java reads them by the locale (on macOS always so).
const LOCALE: &str = if cfg!(target_os = "macos") { "C" } else { "C.UTF-8" };

/// Who runs the servers: this process's own user, or the `postgres` user.
#[derive(Clone, Debug)]
pub(crate) struct RunAs {
    /// User and group, where they differ from our own.
    other: Option<(u32, u32)>,
}

impl RunAs {
    /// The right one for this process.
    pub(crate) fn find() -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { other: None });
        }
        // The system's own look-up, which also knows users that are in no file.
        let user = User::from_name(USER).map_err(io::Error::from).context(|| format!("look the {USER} user up"))?;
        let user = user.ok_or(Error::NoServerUser)?;
        Ok(Self { other: Some((user.uid.as_raw(), user.gid.as_raw())) })
    }

    /// Whether it is another user than ours.
    pub(crate) fn is_other(&self) -> bool {
        self.other.is_some()
    }

    /// The user's number.
    pub(crate) fn uid(&self) -> u32 {
        self.other.map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid)
    }

    /// The number of the user's group.
    pub(crate) fn gid(&self) -> u32 {
        self.other.map_or_else(|| rustix::process::getegid().as_raw(), |(_, gid)| gid)
    }

    /// Makes `command` run as this user, in a process group of its own (Ctrl-C is for us), with an
    /// environment that holds nothing by chance.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", LOCALE).env("TZ", "UTC");
        command.process_group(0).kill_on_drop(true);
        if let Some((uid, gid)) = self.other {
            command.uid(uid).gid(gid);
        }
    }

    /// Makes a private folder of this user, with its parents, if it is missing.
    pub(crate) fn make_folder(&self, folder: &Path) -> Result<(), Error> {
        let context = || format!("create {}", folder.display());
        if let Some(parent) = folder.parent() {
            make_parents(parent, self.is_other()).context(context)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => made.context(context)?,
        }
        self.own(folder)
    }

    /// Writes a file of this user.
    pub(crate) fn write(&self, file: &Path, text: &str) -> Result<(), Error> {
        // A new file rather than one that is there: it may be a link to somewhere else.
        remove_if_there(file)?;
        fs::write(file, text).context(|| format!("write {}", file.display()))?;
        self.own(file)
    }

    fn own(&self, path: &Path) -> Result<(), Error> {
        let Some((uid, gid)) = self.other else { return Ok(()) };
        lchown(path, Some(uid), Some(gid)).context(|| format!("give {} to the {USER} user", path.display()))
    }

    /// Checks that this user may pass through every folder above `path`. Access lists beyond the
    /// mode are not looked at.
    pub(crate) fn check_reaches(&self, path: &Path) -> Result<(), Error> {
        match self.obstacle(path) {
            Some(folder) => Err(Error::Unreachable { folder, path: path.to_owned() }),
            None => Ok(()),
        }
    }

    /// The folder above `path` that this user cannot pass through.
    pub(crate) fn obstacle(&self, path: &Path) -> Option<PathBuf> {
        let (uid, gid) = self.other?;
        let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
        folders.reverse();
        let obstacle = folders.into_iter().find(|folder| {
            let Ok(meta) = fs::metadata(folder) else { return false };
            let needed = match () {
                () if meta.uid() == uid => 0o100,
                () if meta.gid() == gid => 0o010,
                () => 0o001,
            };
            meta.mode() & needed == 0
        });
        obstacle.map(Path::to_owned)
    }
}

/// Makes a folder and those above it that are missing, as everybody makes folders. Where the servers'
/// user has to pass through them it can, whatever the umask.
pub(crate) fn make_parents(folder: &Path, pass_through: bool) -> std::io::Result<()> {
    let missing: Vec<_> =
        folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    fs::create_dir_all(folder)?;
    for made in missing.into_iter().filter(|_| pass_through) {
        let mode = fs::metadata(made)?.permissions().mode();
        fs::set_permissions(made, Permissions::from_mode(mode | 0o111))?;
    }
    Ok(())
}

/// Removes a file or link, if it is there.
pub(crate) fn remove_if_there(file: &Path) -> Result<(), Error> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a folder with all it holds, if it is there.
pub(crate) fn remove_folder_if_there(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_nobody_else_may_pass_is_named() {
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(closed).tempdir().expect("a folder");
        // It is open to its owner alone, which is never this user.
        let stranger = RunAs { other: Some((4_000_001, 4_000_001)) };
        assert_eq!(stranger.obstacle(&folder.path().join("data")), Some(folder.path().to_owned()));
        assert!(RunAs { other: None }.obstacle(&folder.path().join("data")).is_none());
    }
}
