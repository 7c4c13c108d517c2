//! Cleans up after a test process, however it ends.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Waits for the end of its input, which comes when the test process ends. Then ends what runs on the folder, each only
/// if its process still names the folder: the holder of a data directory, then its servers. Removes the folder at last.
const SCRIPT: &str = r#"
folder=$1
cat >/dev/null
end() {
    read -r pid <"$2" 2>/dev/null || return 0
    if [ -r "/proc/$pid/cmdline" ]; then
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "$folder" || return 0
    fi
    kill -CONT "$pid" 2>/dev/null; kill "-$1" "$pid" 2>/dev/null
}
find "$folder" -name lock -o -path '*/logs/*.pid' 2>/dev/null | sort | while read -r file; do
    case $file in
        */postgres.pid) end QUIT "$file" ;;
        *) end KILL "$file" ;;
    esac
done
attempt=0
until rm -rf "$folder" 2>/dev/null || [ $attempt -ge 100 ]; do attempt=$((attempt + 1)); sleep 0.1; done
"#;

/// A folder for servers that goes, with the servers in it, when this is dropped or the process ends.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    // Its input is a pipe from us; the system closes it at our end.
    _process: Child,
}

impl Folder {
    /// A new folder that the servers' user can pass through, with a watchdog of its own.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn watched() -> std::io::Result<Self> {
        // The servers may run as another user, which has to pass through.
        let open = fs::Permissions::from_mode(0o711);
        let folder = tempfile::Builder::new().prefix("fb-").permissions(open).tempdir()?.keep();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
        let folder = folder.canonicalize()?;
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "watchdog"]).arg(&folder).current_dir("/");
        // In a group of its own: Ctrl-C must not end it before its work.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn()?;
        Ok(Self { path: folder, _process: process })
    }

    /// Where it is, without links on the way.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
