//! `addresses.json`: where the parts of a running `flightbell up` are reached.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error};

/// Where things are while `up` runs, for `doctor` and `dlq`. The URLs may hold passwords, so this is
/// readable by its owner alone and its `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The admin port, `127.0.0.1:PORT`.
    pub admin: String,
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// The URL of each service's database, by the service's name.
    pub databases: BTreeMap<String, String>,
}

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Addresses").field("admin", &self.admin).field("kafka", &self.kafka).finish_non_exhaustive()
    }
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
            other => other.doing(|| format!("read {}", file.display()))?,
        };
        serde_json::from_slice(&bytes).map(Some).doing(|| format!("understand {}", file.display()))
    }

    /// Puts the file into its place, whole or not at all.
    pub(crate) fn write(&self, data_dir: &Path) -> Result<(), Error> {
        let (file, new) = (Self::file(data_dir), data_dir.join("addresses.json.new"));
        let doing = || format!("write {}", file.display());
        let text = serde_json::to_vec_pretty(self).doing(doing)?;
        crate::account::remove_if_there(&new)?;
        let mut writer = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new).doing(doing)?;
        writer.write_all(&text).doing(doing)?;
        fs::rename(&new, &file).doing(doing)
    }
}
