//! Files that are written whole or not at all, and that only their owner can read.

use std::{fs, io::Write, path::Path};

use anyhow::Context;

/// How the name of a file begins that is not whole yet.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// The content of a file, if there is one.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Removes files that a kill left half written, since one of them may hold a key.
pub(super) fn clear_away(folder: &Path) -> anyhow::Result<()> {
    let remove = || {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            }
        }
        std::io::Result::Ok(())
    };
    remove().with_context(|| format!("clear away what a kill left in {}", folder.display()))
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = (|| {
        // A new name, for a file that only we can read.
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        // The next file is written only when this one is there for good.
        fs::File::open(folder)?.sync_all()
    })();
    written.with_context(|| format!("write {}", path.display()))
}
