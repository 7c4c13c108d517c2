//! The data directory, held by one process at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf, absolute},
};

use crate::{
    addresses::Addresses,
    error::{Error, ErrorContext},
    run_as::{RunAs, make_parents, remove_if_there},
};

/// A data directory that is ours until this is dropped or the process ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing, and takes its lock. Nothing in it is touched before.
    ///
    /// # Errors
    /// [`Error::InUse`] with folder and pid when another process holds it, [`Error::Unreachable`] when
    /// the servers' user cannot get there, and whatever the system refuses.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let run_as = RunAs::find()?;
        make(path, &run_as)?;
        let path = path.canonicalize().context(|| format!("find {}", path.display()))?;
        run_as.check_reaches(&path)?;
        let lock = take_lock(&path)?;
        if run_as.is_other() {
            let_through(&path)?;
        }
        remove_if_there(&Addresses::file(&path))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is, without links on the way.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells `doctor` and `dlq` where things are.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_addresses(&self, addresses: &Addresses) -> Result<(), Error> {
        addresses.write(&self.path)
    }

    /// Nothing is there any more.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove_addresses(&self) -> Result<(), Error> {
        remove_if_there(&Addresses::file(&self.path))
    }

    /// Whether the servers' user could get to `path`, also where it is not made yet.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::NoServerUser`].
    pub fn check_reach(path: &Path) -> Result<(), Error> {
        let path = absolute(path).context(|| format!("find {}", path.display()))?;
        RunAs::find()?.check_reaches(&path)
    }

    /// The pid of the process that holds `path`, if one does.
    ///
    /// # Errors
    /// When the lock cannot be looked at.
    pub fn holder(path: &Path) -> Result<Option<String>, Error> {
        if !lock_file(path).exists() {
            return Ok(None);
        }
        match take_lock(path) {
            Ok(_) => Ok(None),
            Err(Error::InUse { pid, .. }) => Ok(Some(pid)),
            Err(error) => Err(error),
        }
    }
}

fn lock_file(path: &Path) -> PathBuf {
    path.join("lock")
}

fn make(path: &Path, run_as: &RunAs) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let made = || {
        if fs::symlink_metadata(path).is_ok() {
            return Err(io::Error::other("what is there is no folder, nor a link to one"));
        }
        // Parents are made as everybody makes folders; what is ours alone is the directory itself.
        if let Some(parent) = path.parent() {
            make_parents(parent, run_as.is_other())?;
        }
        DirBuilder::new().mode(0o700).create(path)
    };
    made().map_err(|source| unusable(path, source))
}

fn unusable(path: &Path, source: io::Error) -> Error {
    Error::NoDataDir { folder: path.to_owned(), source }
}

/// Lets the servers' user pass through to its own folders. What else is here has modes of its own.
fn let_through(path: &Path) -> Result<(), Error> {
    let context = || format!("let the servers' user pass through {}", path.display());
    let mode = fs::metadata(path).context(context)?.permissions().mode();
    fs::set_permissions(path, Permissions::from_mode(mode | 0o011)).context(context)
}

fn take_lock(path: &Path) -> Result<File, Error> {
    let name = lock_file(path);
    let context = || format!("lock {}", name.display());
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&name);
    let mut file = opened.map_err(|source| unusable(path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).context(context)?;
            let pid = if pid.trim().is_empty() { "?" } else { pid.trim() };
            return Err(Error::InUse { folder: path.to_owned(), pid: pid.to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(error).context(context),
    }
    file.set_len(0).context(context)?;
    file.rewind().context(context)?;
    writeln!(file, "{}", std::process::id()).context(context)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).expect("opened");
        folder
    }

    #[test]
    fn a_second_holder_is_told_the_folder_and_the_pid() {
        let parent = folder();
        let path = parent.path().join("data");
        let first = DataDir::open(&path).expect("the first");
        let error = DataDir::open(&path).expect_err("the second").to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert_eq!(DataDir::holder(&path).expect("an answer"), Some(std::process::id().to_string()));
        drop(first);
        assert_eq!(DataDir::holder(&path).expect("an answer"), None);
        DataDir::open(&path).expect("free again");
    }

    #[test]
    fn a_place_that_is_no_folder_is_refused_with_the_way_on() {
        let parent = folder();
        let (file, link) = (parent.path().join("file"), parent.path().join("link"));
        fs::write(&file, "").expect("a file");
        std::os::unix::fs::symlink(parent.path().join("nowhere"), &link).expect("a link");
        for path in [&file, &link, &file.join("below")] {
            let error = DataDir::open(path).expect_err("no folder").to_string();
            assert!(error.contains(&path.display().to_string()) && error.contains("--data-dir"), "{error}");
        }
        assert!(!parent.path().join("nowhere").exists());
    }

    #[test]
    fn the_addresses_are_for_their_owner_alone_and_go_with_the_run() {
        let parent = folder();
        let path = parent.path().join("data");
        let held = DataDir::open(&path).expect("a data directory");
        assert_eq!(Addresses::read(&path).expect("readable"), None);
        let databases = [("user-manager".to_owned(), "postgres://a".to_owned())].into();
        let addresses = Addresses { admin: "127.0.0.1:1".to_owned(), kafka: "127.0.0.1:2".to_owned(), databases };
        held.write_addresses(&addresses).expect("written");
        let mode = fs::metadata(Addresses::file(&path)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Addresses::read(&path).expect("readable"), Some(addresses));
        drop(held);
        let _held = DataDir::open(&path).expect("the next run");
        assert_eq!(Addresses::read(&path).expect("readable"), None, "the old run's addresses would mislead");
    }
}
