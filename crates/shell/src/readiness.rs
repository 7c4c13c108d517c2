//! What `/readyz` answers: one line for each thing a process depends on.
//!
//! A part either keeps a [`Part`] up to date or registers a check that is run when somebody asks.
//! Required parts decide whether the process is ready; the others are only named, since a service
//! that can still answer half its calls serves people better than one taken out of rotation.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;

/// How long a check may take before its dependency counts as down.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Whether the process is ready without this part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Not ready while it is down.
    Required,
    /// Named when it is down; the process stays ready.
    Optional,
}

#[derive(Clone)]
enum State {
    Up(Option<String>),
    Down(String),
    Ask(Check),
}

struct Entry {
    name: String,
    need: Need,
    state: State,
}

/// The parts of one process. Clones share them.
#[derive(Clone, Default)]
pub struct Readiness {
    entries: Arc<Mutex<Vec<Entry>>>,
}

/// One part's own handle: whoever holds it says how the part is. Dropping it removes the part.
pub struct Part {
    entries: Arc<Mutex<Vec<Entry>>>,
    name: String,
}

/// The answer of `/readyz`.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Report {
    /// Whether every required part is up.
    pub ready: bool,
    /// The parts, in the order in which they were added.
    pub parts: Vec<PartReport>,
}

/// One part in a [`Report`].
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct PartReport {
    /// Its name, such as `postgres`.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// What is wrong, or what an operator may want to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Readiness {
    /// Adds a part that is down, because of `reason`, until its holder says otherwise.
    #[must_use]
    pub fn part(&self, name: impl Into<String>, need: Need, reason: &str) -> Part {
        let name = name.into();
        self.add(&name, need, State::Down(reason.to_owned()));
        Part { entries: self.entries.clone(), name }
    }

    /// Adds a part that is asked each time somebody wants to know.
    pub fn check<F, Fut>(&self, name: impl Into<String>, need: Need, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.add(&name.into(), need, State::Ask(Arc::new(move || Box::pin(check()))));
    }

    /// Asks every part.
    pub async fn report(&self) -> Report {
        let asked: Vec<_> = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.iter().map(|entry| (entry.name.clone(), entry.need, entry.state.clone())).collect()
        };
        let answers = asked.into_iter().map(|(name, need, state)| async move {
            let (up, detail) = match state {
                State::Up(detail) => (true, detail),
                State::Down(reason) => (false, Some(reason)),
                State::Ask(check) => match tokio::time::timeout(CHECK_LIMIT, check()).await {
                    Ok(Ok(())) => (true, None),
                    Ok(Err(reason)) => (false, Some(reason)),
                    Err(_) => (false, Some(format!("no answer within {} s", CHECK_LIMIT.as_secs()))),
                },
            };
            (need, PartReport { name, up, detail })
        });
        let answers = futures::future::join_all(answers).await;
        let ready = answers.iter().all(|(need, part)| part.up || *need == Need::Optional);
        Report { ready, parts: answers.into_iter().map(|(_, part)| part).collect() }
    }

    fn add(&self, name: &str, need: Need, state: State) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.name != name);
        entries.push(Entry { name: name.to_owned(), need, state });
    }
}

impl Part {
    /// The part works.
    pub fn up(&self) {
        self.set(State::Up(None));
    }

    /// The part works, and `detail` is worth knowing.
    pub fn up_with(&self, detail: impl Into<String>) {
        self.set(State::Up(Some(detail.into())));
    }

    /// The part does not work, because of `reason`.
    pub fn down(&self, reason: impl Into<String>) {
        self.set(State::Down(reason.into()));
    }

    fn set(&self, state: State) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.name == self.name) {
            entry.state = state;
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).retain(|entry| entry.name != self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_required_part_that_is_down_is_named_and_decides() {
        let readiness = Readiness::default();
        let kafka = readiness.part("kafka", Need::Required, "not connected yet");
        readiness.check("postgres", Need::Required, || async { Ok(()) });
        let report = readiness.report().await;
        assert!(!report.ready);
        assert_eq!(report.parts[0].detail.as_deref(), Some("not connected yet"));
        kafka.up();
        assert!(readiness.report().await.ready);
    }

    #[tokio::test]
    async fn an_optional_part_that_is_down_is_named_and_does_not_decide() {
        let readiness = Readiness::default();
        readiness.check("user-manager", Need::Optional, || async { Err("refused".to_owned()) });
        let report = readiness.report().await;
        assert!(report.ready);
        assert_eq!(
            report.parts,
            [PartReport { name: "user-manager".into(), up: false, detail: Some("refused".into()) }]
        );
    }

    #[tokio::test]
    async fn a_check_that_hangs_counts_as_down() {
        let readiness = Readiness::default();
        readiness.check("postgres", Need::Required, std::future::pending::<Result<(), String>>);
        assert!(!readiness.report().await.ready);
    }

    #[tokio::test]
    async fn a_part_that_is_gone_is_no_longer_asked() {
        let readiness = Readiness::default();
        drop(readiness.part("warming up", Need::Required, "reading"));
        assert!(readiness.report().await.parts.is_empty());
    }
}
