//! Settings that a process decides itself, over those of its environment.

use std::{borrow::Cow, collections::HashMap};

use super::{Origin, Vars};

/// Settings over other settings: what is not set here is looked up underneath.
pub struct Overlay<'a> {
    over: HashMap<Cow<'static, str>, String>,
    under: &'a dyn Vars,
    giver: &'static str,
}

impl<'a> Overlay<'a> {
    /// Nothing yet over `under`.
    #[must_use]
    pub fn on(under: &'a dyn Vars) -> Self {
        Self { over: HashMap::new(), under, giver: "the program" }
    }

    /// Names who sets what is set here.
    #[must_use]
    pub fn by(mut self, giver: &'static str) -> Self {
        self.giver = giver;
        self
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

    fn origin(&self, key: &str) -> Origin {
        if self.over.contains_key(key) { Origin::Override(self.giver) } else { self.under.origin(key) }
    }

    fn keys(&self) -> Vec<String> {
        self.under.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Reader;

    #[test]
    fn an_overlay_hides_what_is_underneath() {
        let vars = [("PORT", "1"), ("HOST", "a")];
        let overlay = Overlay::on(&vars).with("PORT", "2").with_default("HOST", "b").with_default("USER", "c");
        let read = |key| Reader::new(&overlay).raw(key);
        assert_eq!((read("PORT"), read("HOST")), (Some("2".to_owned()), Some("a".to_owned())));
        assert_eq!(read("USER"), Some("c".to_owned()));
        assert_eq!(Reader::new(&Overlay::on(&vars).without("PORT")).raw("PORT"), None);
    }
}
