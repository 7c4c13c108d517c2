//! The settings in effect, as they may be shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Vars, mask};

/// How alike two names are at least when one may be meant as the other: one letter more, less, other or swapped.
const LARGEST_SLIP: usize = 1;
/// Shorter names resemble each other by chance.
const SHORTEST_NAME: usize = 8;

/// Where the value of a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The environment of the process.
    Environment,
    /// The file that `KEY_FILE` names.
    File,
    /// Another part of the program, such as `up`, which starts the services with settings of its own.
    Override(&'static str),
    /// The code.
    Default,
    /// It has no value.
    Unset,
}

/// A setting as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// The value, without anything secret in it.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// A name in the environment that nothing reads, and the setting that is probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misspelt {
    /// The name.
    pub key: String,
    /// The setting's.
    pub meant: String,
}

/// The settings that a [`Reader`](super::Reader) was asked for, without anything secret in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<String, Setting>,
    /// Every key that was looked at, other names of a setting and the `KEY_FILE`s of secrets among them.
    names: BTreeSet<String>,
}

impl Settings {
    /// The settings in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.values.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// The setting of that name.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.values.get(key)
    }

    /// Whether something read, or would have read, a setting of this name: the setting's own, another name of it, or
    /// the `KEY_FILE` of a secret.
    #[must_use]
    pub fn knows(&self, key: &str) -> bool {
        self.names.contains(key)
    }

    /// Adds or replaces a setting. `value` is shown as it is.
    pub fn set(&mut self, key: impl Into<String>, setting: Setting) {
        self.values.insert(key.into(), setting);
    }

    /// A line for each, in the order of their keys.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.iter().map(|(key, Setting { value, origin })| match origin {
            Origin::Unset => format!("{key} is not set"),
            _ => format!("{key}={} ({origin})", mask::word(value)),
        })
    }

    /// The names in `vars` that are none of these settings' and almost one of them.
    #[must_use]
    pub fn misspelt(&self, vars: &dyn Vars) -> Vec<Misspelt> {
        let unknown = vars.keys().into_iter().filter(|key| !self.names.contains(key));
        unknown.filter_map(|key| Some(Misspelt { meant: self.meant(&key)?.to_owned(), key })).collect()
    }

    fn meant(&self, key: &str) -> Option<&str> {
        let upper = key.to_uppercase();
        let is_close = |name: &&String| {
            name.len() >= SHORTEST_NAME
                && name.len().abs_diff(upper.len()) <= LARGEST_SLIP
                && strsim::osa_distance(&name.to_uppercase(), &upper) <= LARGEST_SLIP
        };
        self.names.iter().find(is_close).map(String::as_str)
    }

    /// Logs them in one line, and a warning for each name in `vars` that is misspelt.
    pub fn log(&self, service: &str, vars: &dyn Vars) {
        tracing::info!("settings of {service}: {self}");
        self.misspelt(vars).iter().for_each(|slip| tracing::warn!("{slip}"));
    }

    pub(super) fn look_at(&mut self, key: &str) {
        if !self.names.contains(key) {
            self.names.insert(key.to_owned());
        }
    }

    /// Notes what was read; a value that was read before stays.
    pub(super) fn note(&mut self, key: &str, setting: Setting) {
        if self.values.get(key).is_none_or(|known| known.origin == Origin::Unset) {
            self.set(key, setting);
        }
    }
}

impl Extend<Self> for Settings {
    fn extend<T: IntoIterator<Item = Self>>(&mut self, others: T) {
        for other in others {
            self.values.extend(other.values);
            self.names.extend(other.names);
        }
    }
}

impl Setting {
    pub(super) fn unset() -> Self {
        Self { value: String::new(), origin: Origin::Unset }
    }
}

impl fmt::Display for Misspelt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, meant } = self;
        write!(f, "{} is set, and no setting is called so: {meant} is one", mask::word(key))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("environment"),
            Self::File => f.write_str("file"),
            Self::Override(giver) => write!(f, "given by {giver}"),
            Self::Default => f.write_str("default"),
            Self::Unset => f.write_str("not set"),
        }
    }
}

/// The settings by their origin, in one line.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_origin = BTreeMap::<Origin, Vec<String>>::new();
        for (key, setting) in self.iter() {
            let shown = match setting.origin {
                Origin::Unset => key.to_owned(),
                _ => format!("{key}={}", mask::word(&setting.value)),
            };
            by_origin.entry(setting.origin).or_default().push(shown);
        }
        let sections = by_origin.into_iter().map(|(origin, shown)| format!("{origin}: {}", shown.join(" ")));
        f.write_str(&sections.collect::<Vec<_>>().join("; "))
    }
}
