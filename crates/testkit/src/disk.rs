//! A disk that is soon full.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use local_servers::free_bytes;

/// A file system in memory, mounted until this is dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and the test counts as skipped, where mounting is not allowed.
    #[must_use]
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("a folder");
        let options = format!("size={size},mode=0711");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            other => {
                crate::skip(&format!("a small disk cannot be mounted here ({other:?})"));
                None
            }
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it larger or smaller, as `mount` names sizes; not smaller than what it holds.
    pub fn resize(&self, size: &str) {
        assert!(self.is_resized(size), "{} cannot have {size}", self.0.display());
    }

    fn is_resized(&self, size: &str) -> bool {
        let options = format!("remount,size={size}");
        Command::new("mount").args(["-o", &options]).arg(&self.0).output().expect("mount").status.success()
    }

    /// Makes it so small or so large that about `room` bytes are free.
    pub fn leave(&self, room: u64) {
        let is_so = || {
            let stat = rustix::fs::statvfs(&self.0).expect("an answer");
            let held = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
            self.is_resized(&(held + room).to_string())
        };
        // Another process may write in between, and a disk is never smaller than what it holds.
        assert!((0..1000).any(|_| is_so()), "{} cannot have {room} bytes free", self.0.display());
    }

    /// Leaves no more than `room` bytes; the file that takes the rest.
    pub fn fill(&self, room: u64) -> PathBuf {
        let (file, free) = (self.0.join("filler"), free_bytes(&self.0).expect("an answer"));
        let length = usize::try_from(free.saturating_sub(room)).expect("small");
        fs::write(&file, vec![0; length]).expect("filled");
        assert!(free_bytes(&self.0).expect("an answer") <= room + 4096);
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that the failed test left may still be there.
        let status = Command::new("umount").arg("-l").arg(&self.0).status().expect("umount");
        assert!(status.success() || std::thread::panicking());
    }
}
