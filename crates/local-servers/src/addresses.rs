//! `addresses.json`: where the parts of a running `flightbell up` are reached.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorContext};

/// Where things are while `up` runs, for `doctor` and `dlq`. It holds no secrets: databases that the
/// operator named are not in it. It is readable by its owner alone all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The admin port, `127.0.0.1:PORT`.
    pub admin: String,
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// The URL of each service's database in a private PostgreSQL, by the service's name: a socket in a
    /// private folder, and no password. Empty when the operator named the databases.
    #[serde(default)]
    pub databases: BTreeMap<String, String>,
}

impl Addresses {
    /// The file's place in a data directory.
    #[must_use]
    pub fn file(data_dir: &Path) -> PathBuf {
        data_dir.join("addresses.json")
    }

    /// What the running process wrote; `None` when nothing runs in `data_dir`.
    ///
    /// # Errors
    /// When the file cannot be read or does not hold addresses.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, Error> {
        let file = Self::file(data_dir);
        let bytes = match fs::read(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.context(|| format!("read {}", file.display()))?,
        };
        serde_json::from_slice(&bytes).map(Some).context(|| format!("understand {}", file.display()))
    }

    /// Puts the file into its place, whole or not at all.
    pub(crate) fn write(&self, data_dir: &Path) -> Result<(), Error> {
        let (file, new) = (Self::file(data_dir), data_dir.join("addresses.json.new"));
        let context = || format!("write {}", file.display());
        let text = serde_json::to_vec_pretty(self).context(context)?;
        crate::run_as::remove_if_there(&new)?;
        let mut writer = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new).context(context)?;
        writer.write_all(&text).context(context)?;
        fs::rename(&new, &file).context(context)
    }
}
