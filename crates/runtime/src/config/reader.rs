//! Typed settings, one key at a time.

use std::{fmt, str::FromStr, time::Duration};

use secrecy::SecretString;
use url::Url;

use super::{ConfigError, Origin, Setting, Settings, Vars, mask, without_password};

/// Reads typed settings, collects what is wrong with them, and notes each as it may be shown.
pub struct Reader<'a> {
    vars: &'a dyn Vars,
    problems: Vec<String>,
    settings: Settings,
}

impl<'a> Reader<'a> {
    /// A reader of `vars` with no problems yet.
    #[must_use]
    pub fn new(vars: &'a dyn Vars) -> Self {
        Self { vars, problems: Vec::new(), settings: Settings::default() }
    }

    /// The raw value; an empty one counts as not set. One that is no text is a problem.
    pub fn raw(&mut self, key: &str) -> Option<String> {
        let value = self.unlisted(key);
        self.note(key, value.as_deref().map(|value| mask::setting(key, value)));
        value
    }

    /// The raw value of what may be personal, such as the name of an account. It is never shown.
    pub fn private(&mut self, key: &str) -> Option<String> {
        let value = self.unlisted(key);
        self.note(key, value.as_ref().map(|_| mask::HIDDEN.to_owned()));
        value
    }

    /// The first that is set of several names of one setting.
    pub fn first<'k>(&mut self, names: &[&'k str]) -> Option<(&'k str, String)> {
        let found = names.iter().find_map(|key| Some((*key, self.unlisted(key)?)));
        names.iter().for_each(|key| self.settings.look_at(key));
        if let Some(key) = found.as_ref().map(|(key, _)| *key).or_else(|| names.first().copied()) {
            self.raw(key);
        }
        found
    }

    /// The raw value, as [`Reader::raw`] answers it, for a look at a setting that is another part's: it does not
    /// appear among the settings.
    pub fn unlisted(&mut self, key: &str) -> Option<String> {
        self.settings.look_at(key);
        if self.vars.is_garbled(key) {
            self.problem_once(format!("{key} cannot be used: its value is not UTF-8 text"));
            return None;
        }
        self.vars.get(key).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The settings that were read so far, as they may be shown.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    fn note(&mut self, key: &str, shown: Option<String>) {
        let origin = self.vars.origin(key);
        let setting = shown.map_or_else(Setting::unset, |value| Setting { value, origin });
        self.settings.note(key, setting);
    }

    /// Notes a problem that only the caller can see, such as two keys that contradict each other.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Notes a problem, unless it is noted already.
    pub fn problem_once(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problem(problem);
        }
    }

    /// A value that has no default. `meaning` completes the sentence "KEY is not set: it is …".
    pub fn required<T>(&mut self, key: &str, meaning: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        if self.is_unset(key) {
            self.problem(format!("{key} is not set: it is {meaning}"));
        }
        self.optional(key)
    }

    /// A value that may be absent.
    pub fn optional<T>(&mut self, key: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let value = self.raw(key)?;
        let shown = || without_password(&value);
        value.parse().map_err(|error| self.problem(format!("{key}={:?} cannot be used: {error}", shown()))).ok()
    }

    /// A value with a default. The default stands in for a wrong value too, whose problem is noted.
    pub fn or<T>(&mut self, key: &str, default: T) -> T
    where
        T: FromStr + fmt::Display,
        T::Err: fmt::Display,
    {
        self.optional(key).unwrap_or_else(|| {
            self.note_default(key, &default);
            default
        })
    }

    fn note_default(&mut self, key: &str, default: &dyn fmt::Display) {
        self.settings.note(key, Setting { value: default.to_string(), origin: Origin::Default });
    }

    /// A number between `least` and `most`, both allowed.
    pub fn number(&mut self, key: &str, default: u64, least: u64, most: u64) -> u64 {
        let value: u64 = self.or(key, default);
        if (least..=most).contains(&value) {
            return value;
        }
        self.problem(format!("{key}={value} cannot be used: it must be from {least} to {most}"));
        default
    }

    /// A whole number of seconds, at least one.
    pub fn seconds(&mut self, key: &str, default: u64) -> Duration {
        Duration::from_secs(self.number(key, default, 1, 31_536_000))
    }

    /// A secret that may be absent: `KEY`, or the trimmed content of the file that `KEY_FILE` names.
    /// The value itself never appears in a problem or among the settings.
    pub fn secret(&mut self, key: &str) -> Option<SecretString> {
        self.secret_shown_as(key, |_| mask::HIDDEN.to_owned())
    }

    /// A secret that has no default. `meaning` completes the sentence "KEY is not set: it is …".
    pub fn required_secret(&mut self, key: &str, meaning: &str) -> Option<SecretString> {
        self.require_secret(key, meaning);
        self.secret(key)
    }

    /// The URL of a database, which is a secret that may be absent. Its host, port and the database's name may be shown.
    pub fn database_url(&mut self, key: &str) -> Option<SecretString> {
        self.secret_shown_as(key, mask::database)
    }

    /// The URL of a database, which has no default.
    pub fn required_database_url(&mut self, key: &str, meaning: &str) -> Option<SecretString> {
        self.require_secret(key, meaning);
        self.database_url(key)
    }

    fn require_secret(&mut self, key: &str, meaning: &str) {
        if self.is_unset(key) && self.is_unset(&format!("{key}_FILE")) {
            self.problem(format!("{key} (or {key}_FILE) is not set: it is {meaning}"));
        }
    }

    fn secret_shown_as(&mut self, key: &str, shown: impl FnOnce(&str) -> String) -> Option<SecretString> {
        let file_key = format!("{key}_FILE");
        let found = match (self.unlisted(key), self.unlisted(&file_key)) {
            (Some(_), Some(_)) => {
                self.problem(format!("{key} and {file_key} are both set: set one of them"));
                None
            }
            (Some(value), None) => Some((value, self.vars.origin(key))),
            (None, None) => None,
            (None, Some(path)) => self.content(&file_key, &path).map(|value| (value, Origin::File)),
        };
        let setting = found.as_ref().map(|(value, origin)| Setting { value: shown(value), origin: *origin });
        self.settings.set(key, setting.unwrap_or_else(Setting::unset));
        found.map(|(value, _)| value.into())
    }

    fn content(&mut self, file_key: &str, path: &str) -> Option<String> {
        let problem = match std::fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => return Some(text.trim().to_owned()),
            Ok(_) => "the file is empty".to_owned(),
            Err(error) => error.to_string(),
        };
        // The secret itself may stand where its file should be named.
        let is_path = path.starts_with(['/', '.']);
        let named = if is_path { format!("{file_key}={path:?}") } else { file_key.to_owned() };
        self.problem(format!("{named} cannot be used: {problem}"));
        None
    }

    fn is_unset(&mut self, key: &str) -> bool {
        self.unlisted(key).is_none() && !self.vars.is_garbled(key)
    }

    /// Where a third party's HTTP interface is; `default` is its usual address.
    pub fn web_url(&mut self, key: &str, default: &str) -> Option<Url> {
        let url: Url = match self.raw(key) {
            Some(_) => self.optional(key)?,
            None => {
                self.note_default(key, &default);
                default.parse().ok()?
            }
        };
        if ["http", "https"].contains(&url.scheme()) && url.has_host() && url.query().is_none() {
            return Some(url);
        }
        let shown = without_password(url.as_str());
        self.problem(format!("{key}={shown:?} cannot be used: it must be a URL like {default}"));
        None
    }

    /// Ends the reading: the configuration, or everything that was wrong.
    ///
    /// # Errors
    /// When a problem was noted, or `build` answers `None`.
    pub fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, ConfigError> {
        if !self.problems.is_empty() {
            return Err(ConfigError::all(self.problems, self.settings));
        }
        let missing = || ConfigError::all(vec!["a required setting is missing".to_owned()], self.settings);
        build().ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::{Overlay, RuntimeConfig};

    #[test]
    fn every_problem_is_told_at_once() {
        let vars = [("PORT", "seven"), ("RUST_LOG", "a=b=c"), ("DAYS", "0")];
        let mut reader = Reader::new(&vars);
        let port: Option<u16> = reader.required("PORT", "a port");
        let url: Option<String> = reader.required("URL", "an address");
        reader.number("DAYS", 90, 1, 365);
        RuntimeConfig::read(&mut reader);
        let error = reader.finish(|| Some((port?, url?))).expect_err("four problems");
        assert_eq!(error.problems().len(), 4, "{error}");
        assert!(error.to_string().starts_with("4 settings cannot be used:\n  - PORT=\"seven\""), "{error}");
    }

    #[test]
    fn a_secret_comes_from_its_file_and_never_shows() {
        let file = std::env::temp_dir().join(format!("flightbell-secret-{}", std::process::id()));
        std::fs::write(&file, "hush\n").expect("write the secret");
        let path = file.to_string_lossy().into_owned();
        let vars = HashMap::from([("TOKEN_FILE".to_owned(), path)]);
        let mut reader = Reader::new(&vars);
        let secret = reader.required_secret("TOKEN", "a token").expect("the file has it");
        assert_eq!(secret.expose_secret(), "hush");
        assert!(!format!("{secret:?}").contains("hush"));
        std::fs::remove_file(file).expect("remove the secret");
    }

    #[test]
    fn a_secret_given_twice_is_a_problem() {
        let vars = [("TOKEN", "a"), ("TOKEN_FILE", "/nowhere")];
        let mut reader = Reader::new(&vars);
        assert!(reader.secret("TOKEN").is_none());
        assert!(reader.finish(|| Some(())).is_err());
    }

    #[test]
    fn an_empty_value_counts_as_not_set() {
        let vars = [("PORT", " ")];
        let mut reader = Reader::new(&vars);
        assert_eq!(reader.or("PORT", 7u16), 7);
        assert!(reader.finish(|| Some(())).is_ok());
    }

    #[test]
    fn a_value_that_is_no_text_is_told_once_and_no_default_stands_in() {
        struct Garbled;
        impl Vars for Garbled {
            fn get(&self, _: &str) -> Option<String> {
                None
            }
            fn is_garbled(&self, _: &str) -> bool {
                true
            }
        }
        let vars = Overlay::on(&Garbled).with("HOST", "a");
        let mut reader = Reader::new(&vars);
        assert_eq!(reader.or("PORT", 7u16), 7);
        let host: Option<String> = reader.required("HOST", "a host");
        let url: Option<String> = reader.required("URL", "an address");
        assert!(reader.required_secret("TOKEN", "a token").is_none());
        assert_eq!((host.as_deref(), url), (Some("a"), None));
        let error = reader.finish(|| Some(())).expect_err("problems");
        let told = ["PORT", "URL", "TOKEN", "TOKEN_FILE"]
            .map(|key| format!("{key} cannot be used: its value is not UTF-8 text"));
        assert_eq!(error.problems(), told);
    }
}
