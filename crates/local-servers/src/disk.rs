//! Room on the disk.

use std::path::Path;

use crate::error::{Error, ErrorContext};

/// Bytes that an ordinary user may still write on the file system that holds `folder`.
///
/// # Errors
/// When the system does not tell.
pub fn free_bytes(folder: &Path) -> Result<u64, Error> {
    let stat = rustix::fs::statvfs(folder).context(|| format!("ask how much room {} has", folder.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
