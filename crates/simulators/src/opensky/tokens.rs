//! Tokens that were given, and for how long.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

/// Valid tokens and when they end.
#[derive(Default)]
pub(super) struct Tokens {
    ends: Mutex<HashMap<String, Instant>>,
}

impl Tokens {
    pub(super) fn give(&self, lifetime: Duration) -> String {
        let token = Uuid::new_v4().simple().to_string();
        let now = Instant::now();
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.retain(|_, end| *end > now);
        ends.insert(token.clone(), now + lifetime);
        token
    }

    pub(super) fn is_valid(&self, token: &str) -> bool {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.get(token).is_some_and(|end| *end > Instant::now())
    }

    pub(super) fn expire_all(&self) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
