//! Where settings come from.

use std::collections::HashMap;

use super::Origin;

/// Where settings come from: the process's environment, or a map in tests.
pub trait Vars {
    /// The value of `key`, if it is set.
    fn get(&self, key: &str) -> Option<String>;

    /// Whether `key` is set to something that is no text, so that [`Vars::get`] cannot answer it.
    fn is_garbled(&self, _key: &str) -> bool {
        false
    }

    /// Where the value of `key` comes from, if it is set.
    fn origin(&self, _key: &str) -> Origin {
        Origin::Environment
    }

    /// The names of everything that is set, where that can be told.
    fn keys(&self) -> Vec<String> {
        Vec::new()
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

    fn keys(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(key, _)| key.into_string().ok()).collect()
    }
}

impl Vars for HashMap<String, String> {
    fn get(&self, key: &str) -> Option<String> {
        HashMap::get(self, key).cloned()
    }

    fn keys(&self) -> Vec<String> {
        HashMap::keys(self).cloned().collect()
    }
}

impl<const N: usize> Vars for [(&str, &str); N] {
    fn get(&self, key: &str) -> Option<String> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
    }

    fn keys(&self) -> Vec<String> {
        self.iter().map(|(key, _)| (*key).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_a_process_may_hold_what_is_no_text() {
        use std::os::unix::ffi::OsStrExt as _;
        const MARK: &str = "FLIGHTBELL_GARBLED";
        if ProcessEnv.get("FLIGHTBELL_GARBLED_CHILD").is_some() {
            assert!(ProcessEnv.is_garbled(MARK) && ProcessEnv.get(MARK).is_none());
            return;
        }
        assert!(!ProcessEnv.is_garbled(MARK));
        let name = "config::vars::tests::the_environment_of_a_process_may_hold_what_is_no_text";
        let child = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name])
            .env("FLIGHTBELL_GARBLED_CHILD", "1")
            .env(MARK, std::ffi::OsStr::from_bytes(b"\xff"))
            .output();
        let child = child.expect("a child");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    }
}
