//! The environment, read once, into types, with all complaints at once.
//!
//! A service's `Config::from_vars` asks a [`Reader`] for each key. The reader notes every problem
//! and goes on, so that somebody who mistyped three settings learns of three.

use std::{borrow::Cow, collections::HashMap, fmt, net::SocketAddr, str::FromStr, time::Duration};

use secrecy::SecretString;
use url::Url;

/// Where settings come from: the process's environment, or a map in tests.
pub trait Vars {
    /// The value of `key`, if it is set.
    fn get(&self, key: &str) -> Option<String>;

    /// Whether `key` is set to something that is no text, so that [`Vars::get`] cannot answer it.
    fn is_garbled(&self, _key: &str) -> bool {
        false
    }
}

/// The environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessEnv;

impl Vars for ProcessEnv {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn get(&self, key: &str) -> Option<String> {
        std::env::var(key).ok()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn is_garbled(&self, key: &str) -> bool {
        matches!(std::env::var(key), Err(std::env::VarError::NotUnicode(_)))
    }
}

impl Vars for HashMap<String, String> {
    fn get(&self, key: &str) -> Option<String> {
        HashMap::get(self, key).cloned()
    }
}

impl<const N: usize> Vars for [(&str, &str); N] {
    fn get(&self, key: &str) -> Option<String> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
    }
}

/// Settings over other settings: what is not set here is looked up underneath.
pub struct Overlay<'a> {
    over: HashMap<Cow<'static, str>, String>,
    under: &'a dyn Vars,
}

impl<'a> Overlay<'a> {
    /// Nothing yet over `under`.
    #[must_use]
    pub fn on(under: &'a dyn Vars) -> Self {
        Self { over: HashMap::new(), under }
    }

    /// With `key` set to `value`, whatever is underneath.
    #[must_use]
    pub fn with(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.over.insert(key.into(), value.into());
        self
    }

    /// With `key` set to `value` unless it is set already.
    #[must_use]
    pub fn with_default(self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        let key = key.into();
        if self.get(&key).is_some_and(|set| !set.trim().is_empty()) { self } else { self.with(key, value) }
    }

    /// With `key` not set, whatever is underneath.
    #[must_use]
    pub fn without(self, key: impl Into<Cow<'static, str>>) -> Self {
        self.with(key, "")
    }
}

impl Vars for Overlay<'_> {
    fn get(&self, key: &str) -> Option<String> {
        self.over.get(key).cloned().or_else(|| self.under.get(key))
    }

    fn is_garbled(&self, key: &str) -> bool {
        !self.over.contains_key(key) && self.under.is_garbled(key)
    }
}

/// Everything that is wrong with the settings, one line a problem.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// One problem.
    #[must_use]
    pub fn of(problem: impl Into<String>) -> Self {
        Self(vec![problem.into()])
    }

    /// All the problems of several configurations, each told once; `None` when there are none.
    #[must_use]
    pub fn joined(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut problems: Vec<String> = Vec::new();
        for problem in errors.into_iter().flat_map(|error| error.0) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// The problems, each naming its key and the mend.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} setting{} cannot be used:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for ConfigError {}

/// Reads typed settings and collects what is wrong with them.
pub struct Reader<'a> {
    vars: &'a dyn Vars,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader of `vars` with no problems yet.
    #[must_use]
    pub fn new(vars: &'a dyn Vars) -> Self {
        Self { vars, problems: Vec::new() }
    }

    /// The raw value; an empty one counts as not set. One that is no text is a problem.
    pub fn raw(&mut self, key: &str) -> Option<String> {
        if self.vars.is_garbled(key) {
            self.problem_once(format!("{key} cannot be used: its value is not UTF-8 text"));
            return None;
        }
        self.vars.get(key).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
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
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.optional(key).unwrap_or(default)
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
    /// The value itself never appears in a problem.
    pub fn secret(&mut self, key: &str) -> Option<SecretString> {
        let file_key = format!("{key}_FILE");
        match (self.raw(key), self.raw(&file_key)) {
            (Some(_), Some(_)) => {
                self.problem(format!("{key} and {file_key} are both set: set one of them"));
                None
            }
            (Some(value), None) => Some(value.into()),
            (None, None) => None,
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) if !text.trim().is_empty() => Some(text.trim().to_owned().into()),
                Ok(_) => {
                    self.problem(format!("{file_key}={path:?} cannot be used: the file is empty"));
                    None
                }
                Err(error) => {
                    self.problem(format!("{file_key}={path:?} cannot be used: {error}"));
                    None
                }
            },
        }
    }

    /// A secret that has no default. `meaning` completes the sentence "KEY is not set: it is …".
    pub fn required_secret(&mut self, key: &str, meaning: &str) -> Option<SecretString> {
        if self.is_unset(key) && self.is_unset(&format!("{key}_FILE")) {
            self.problem(format!("{key} (or {key}_FILE) is not set: it is {meaning}"));
        }
        self.secret(key)
    }

    fn is_unset(&mut self, key: &str) -> bool {
        self.raw(key).is_none() && !self.vars.is_garbled(key)
    }

    /// Where somebody else's HTTP interface is, with the address where it is for most.
    pub fn web_url(&mut self, key: &str, default: &str) -> Option<Url> {
        let url: Url = match self.raw(key) {
            Some(_) => self.optional(key)?,
            None => default.parse().ok()?,
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
            return Err(ConfigError(self.problems));
        }
        build().ok_or_else(|| ConfigError::of("a required setting is missing"))
    }
}

/// `value` as it may be shown: of a URL without the user and password in it.
pub fn without_password(value: &str) -> Cow<'_, str> {
    let begin = value.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = value.split_at(begin);
    let authority = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
    match authority.rfind('@') {
        Some(at) => Cow::Owned(format!("{scheme}***{}", &rest[at..])),
        // A password may hold what ends an authority, in an address that is none.
        None => match rest.rfind('@').filter(|_| begin > 0) {
            Some(at) => Cow::Owned(format!("{scheme}***{}", &rest[at..])),
            None => Cow::Borrowed(value),
        },
    }
}

/// What every process takes from the environment.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub admin_addr: SocketAddr,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines appear, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log_filter: String,
    /// Where traces go; nothing is exported without it.
    pub traces_endpoint: Option<String>,
    /// The share of traces that start here and are sampled, from 0 to 1.
    pub traces_share: f64,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person at a terminal.
    #[default]
    Text,
    /// One JSON object a line, for a log store.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("it must be text or json"),
        }
    }
}

impl RuntimeConfig {
    /// Reads the keys that every process shares.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let traces_share = reader.or("OTEL_TRACES_SAMPLER_ARG", 1.0);
        if !(0.0..=1.0).contains(&traces_share) {
            reader.problem(format!("OTEL_TRACES_SAMPLER_ARG={traces_share} cannot be used: it must be from 0 to 1"));
        }
        let log_filter = reader.raw("RUST_LOG").unwrap_or_else(|| "info".to_owned());
        if let Err(error) = log_filter.parse::<tracing_subscriber::EnvFilter>() {
            reader.problem(format!("RUST_LOG={log_filter:?} cannot be used: {error}"));
        }
        Self {
            admin_addr: reader.or("ADMIN_ADDR", SocketAddr::from(([0, 0, 0, 0], 9090))),
            log_format: reader.or("LOG_FORMAT", LogFormat::default()),
            log_filter,
            traces_endpoint: traces_endpoint(reader),
            traces_share,
        }
    }
}

/// The exporter sends no user and password, so an address with them would not do what it says.
fn traces_endpoint(reader: &mut Reader<'_>) -> Option<String> {
    const KEY: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let url: Url = reader.optional(KEY)?;
    if !url.username().is_empty() || url.password().is_some() {
        let shown = without_password(url.as_str());
        reader.problem(format!("{KEY}={shown:?} cannot be used: it must not hold a user or a password"));
        return None;
    }
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

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
    fn no_password_in_an_address_shows_in_a_problem() {
        for (value, shown) in [
            ("http://ada:hush@host:1/a", "http://***@host:1/a"),
            ("ftp://ada:hu@sh@host", "ftp://***@host"),
            ("http://ada:hu/sh@host", "http://***@host"),
            ("ada:hush@host:1", "***@host:1"),
            ("http://host/a@b", "http://***@b"),
            ("http://host", "http://host"),
            ("a/b@c", "a/b@c"),
        ] {
            assert_eq!(without_password(value), shown);
        }
        let vars = [
            ("PORT", "http://ada:hush@host"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ada:hush@host:4317"),
            ("URL", "ftp://ada:hush@host"),
        ];
        let mut reader = Reader::new(&vars);
        let _: Option<u16> = reader.optional("PORT");
        RuntimeConfig::read(&mut reader);
        reader.web_url("URL", "http://host");
        let problems = reader.finish(|| Some(())).expect_err("problems");
        assert_eq!(problems.problems().len(), 3, "{problems}");
        assert!(!problems.to_string().contains("hush"), "{problems}");
    }

    #[test]
    fn a_secret_given_twice_is_a_problem() {
        let vars = [("TOKEN", "a"), ("TOKEN_FILE", "/nowhere")];
        let mut reader = Reader::new(&vars);
        assert!(reader.secret("TOKEN").is_none());
        assert!(reader.finish(|| Some(())).is_err());
    }

    #[test]
    fn an_overlay_hides_what_is_underneath() {
        let vars = [("PORT", "1"), ("HOST", "a")];
        let overlay = Overlay::on(&vars).with("PORT", "2").with_default("HOST", "b").with_default("USER", "c");
        let read = |key| Reader::new(&overlay).raw(key);
        assert_eq!((read("PORT"), read("HOST")), (Some("2".to_owned()), Some("a".to_owned())));
        assert_eq!(read("USER"), Some("c".to_owned()));
        assert_eq!(Reader::new(&Overlay::on(&vars).without("PORT")).raw("PORT"), None);
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

    #[test]
    fn the_environment_of_a_process_may_hold_what_is_no_text() {
        use std::os::unix::ffi::OsStrExt as _;
        const MARK: &str = "FLIGHTBELL_GARBLED";
        if ProcessEnv.get("FLIGHTBELL_GARBLED_CHILD").is_some() {
            assert!(ProcessEnv.is_garbled(MARK) && ProcessEnv.get(MARK).is_none());
            return;
        }
        assert!(!ProcessEnv.is_garbled(MARK));
        let name = "config::tests::the_environment_of_a_process_may_hold_what_is_no_text";
        let child = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name])
            .env("FLIGHTBELL_GARBLED_CHILD", "1")
            .env(MARK, std::ffi::OsStr::from_bytes(b"\xff"))
            .output();
        let child = child.expect("a child");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    }
}
