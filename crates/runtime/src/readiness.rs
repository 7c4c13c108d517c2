//! What `/readyz` answers: one line for each thing a process depends on.
//!
//! A part either keeps a [`HealthPart`] up to date or registers a check that runs when a caller asks. Required parts
//! decide whether the process is ready; the others are only named, since a service that can still answer half its calls
//! serves people better than one taken out of rotation.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

/// How long a check may take before its dependency counts as down.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// How long the answers of one run of the checks hold. Callers who ask meanwhile share them, so that they cannot make a
/// dependency work by asking often.
const CHECKS_HOLD: Duration = Duration::from_secs(1);

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Whether the process is ready without this part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criticality {
    /// Not ready while it is down.
    Required,
    /// Named when it is down; the process stays ready.
    Optional,
}

/// What a check answered: nothing when all is well, or what is wrong.
type Answer = Option<String>;

/// The answers of one run of the checks, by the part's name and its check.
struct Answers {
    asked_at: Instant,
    answered_at: Instant,
    by_name: HashMap<String, (Check, Answer)>,
}

#[derive(Clone)]
enum State {
    Up(Option<String>),
    Down(String),
    Ask(Check),
}

struct Entry {
    name: String,
    criticality: Criticality,
    state: State,
}

/// The parts of one process. Clones share them.
#[derive(Clone, Default)]
pub struct Readiness {
    entries: Arc<Mutex<Vec<Entry>>>,
    /// Locked while the checks run, so that callers who come meanwhile share that run.
    answers: Arc<tokio::sync::Mutex<Option<Answers>>>,
}

/// One part's own handle: its holder says how the part is. Dropping it removes the part.
pub struct HealthPart {
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
    pub fn part(&self, name: impl Into<String>, criticality: Criticality, reason: &str) -> HealthPart {
        let name = name.into();
        self.add(&name, criticality, State::Down(reason.to_owned()));
        HealthPart { entries: self.entries.clone(), name }
    }

    /// Adds a part that is asked when a report is wanted, at most once a second.
    pub fn check<F, Fut>(&self, name: impl Into<String>, criticality: Criticality, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.add(&name.into(), criticality, State::Ask(Arc::new(move || Box::pin(check()))));
    }

    /// How every part is: what parts say of themselves now, and what checks answered within the last
    /// second.
    pub async fn report(&self) -> Report {
        let entries: Vec<_> = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.iter().map(|entry| (entry.name.clone(), entry.criticality, entry.state.clone())).collect()
        };
        let checks = entries.iter().filter_map(|(name, _, state)| match state {
            State::Ask(check) => Some((name.clone(), check.clone())),
            _ => None,
        });
        let mut answers = self.answers(checks.collect()).await;
        let mut ready = true;
        let parts = entries.into_iter().map(|(name, criticality, state)| {
            let (up, detail) = match state {
                State::Up(detail) => (true, detail),
                State::Down(reason) => (false, Some(reason)),
                State::Ask(_) => match answers.remove(&name).flatten() {
                    None => (true, None),
                    reason => (false, reason),
                },
            };
            ready &= up || criticality == Criticality::Optional;
            PartReport { name, up, detail }
        });
        let parts = parts.collect();
        Report { ready, parts }
    }

    /// What `checks` answer, by name: the answers of a run that is not older than a second or was under way when the
    /// caller came, or of one made now. So nobody waits for more than one run, however many ask while a check hangs.
    async fn answers(&self, checks: Vec<(String, Check)>) -> HashMap<String, Answer> {
        if checks.is_empty() {
            return HashMap::new();
        }
        let came_at = Instant::now();
        let mut shared = self.answers.lock().await;
        let fresh =
            shared.as_ref().filter(|answers| answers.asked_at.elapsed() < CHECKS_HOLD || answers.answered_at > came_at);
        let known = fresh.and_then(|answers| answers.to(&checks));
        if let Some(known) = known {
            return known;
        }
        let asked_at = Instant::now();
        let asked = checks.into_iter().map(|(name, check)| async move {
            let answer = match tokio::time::timeout(CHECK_LIMIT, check()).await {
                Ok(Ok(())) => None,
                Ok(Err(reason)) => Some(reason),
                Err(_) => Some(format!("no answer within {} s", CHECK_LIMIT.as_secs())),
            };
            (name, (check, answer))
        });
        let by_name: HashMap<_, _> = futures::future::join_all(asked).await.into_iter().collect();
        let answers = by_name.iter().map(|(name, (_, answer))| (name.clone(), answer.clone())).collect();
        *shared = Some(Answers { asked_at, answered_at: Instant::now(), by_name });
        answers
    }

    fn add(&self, name: &str, criticality: Criticality, state: State) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.name != name);
        entries.push(Entry { name: name.to_owned(), criticality, state });
    }
}

impl Report {
    /// The report for those who may not read what dependencies say: names, and up or down.
    #[must_use]
    pub fn without_details(mut self) -> Self {
        self.parts.iter_mut().for_each(|part| part.detail = None);
        self
    }
}

impl Answers {
    /// What these checks answered, if all of them were asked.
    fn to(&self, checks: &[(String, Check)]) -> Option<HashMap<String, Answer>> {
        let answer = |(name, check): &(String, Check)| {
            let (asked, answer) = self.by_name.get(name)?;
            Arc::ptr_eq(asked, check).then(|| (name.clone(), answer.clone()))
        };
        checks.iter().map(answer).collect()
    }
}

impl HealthPart {
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

impl Drop for HealthPart {
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
        let kafka = readiness.part("kafka", Criticality::Required, "not connected yet");
        readiness.check("postgres", Criticality::Required, || async { Ok(()) });
        let report = readiness.report().await;
        assert!(!report.ready);
        assert_eq!(report.parts[0].detail.as_deref(), Some("not connected yet"));
        kafka.up();
        assert!(readiness.report().await.ready);
    }

    #[tokio::test]
    async fn an_optional_part_that_is_down_is_named_and_does_not_decide() {
        let readiness = Readiness::default();
        readiness.check("user-manager", Criticality::Optional, || async { Err("refused".to_owned()) });
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
        readiness.check("postgres", Criticality::Required, std::future::pending::<Result<(), String>>);
        assert!(!readiness.report().await.ready);
    }

    #[tokio::test]
    async fn callers_who_come_while_a_check_hangs_wait_for_that_run_alone() {
        let readiness = Readiness::default();
        readiness.check("postgres", Criticality::Required, std::future::pending::<Result<(), String>>);
        let begun = Instant::now();
        let reports = futures::future::join_all((0..20).map(|_| readiness.report())).await;
        assert!(reports.iter().all(|report| !report.ready));
        assert!(begun.elapsed() < CHECK_LIMIT * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn callers_share_one_run_of_the_checks_for_a_second() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (readiness, runs) = (Readiness::default(), Arc::new(AtomicUsize::new(0)));
        let counted = runs.clone();
        readiness.check("postgres", Criticality::Required, move || {
            let counted = counted.clone();
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Err("refused".to_owned())
            }
        });
        let begun = Instant::now();
        let reports = futures::future::join_all((0..1_000).map(|_| readiness.report())).await;
        assert!(reports.iter().all(|report| report == &reports[0] && !report.ready));
        let most = 1 + begun.elapsed().as_secs() as usize;
        assert!(runs.load(Ordering::SeqCst) <= most, "{runs:?} runs in {:?}", begun.elapsed());
        testkit::wait_for("the next run", Duration::from_secs(10), async || {
            readiness.report().await;
            runs.load(Ordering::SeqCst) > most
        })
        .await;
    }

    #[tokio::test]
    async fn a_part_that_says_how_it_is_and_a_new_check_do_not_wait_for_the_next_run() {
        let readiness = Readiness::default();
        let kafka = readiness.part("kafka", Criticality::Required, "not connected yet");
        readiness.check("postgres", Criticality::Required, || async { Ok(()) });
        assert!(!readiness.report().await.ready);
        kafka.up();
        assert!(readiness.report().await.ready);
        readiness.check("disk", Criticality::Required, || async { Err("full".to_owned()) });
        assert!(!readiness.report().await.ready);
        readiness.check("disk", Criticality::Required, || async { Ok(()) });
        assert!(readiness.report().await.ready);
    }

    #[tokio::test]
    async fn what_dependencies_say_can_be_left_out() {
        let readiness = Readiness::default();
        readiness.check("postgres", Criticality::Required, || async { Err("password of ada refused".to_owned()) });
        let report = readiness.report().await.without_details();
        assert_eq!(report.parts, [PartReport { name: "postgres".into(), up: false, detail: None }]);
        assert!(!report.ready);
    }

    #[tokio::test]
    async fn a_part_that_is_gone_is_no_longer_asked() {
        let readiness = Readiness::default();
        drop(readiness.part("warming up", Criticality::Required, "reading"));
        assert!(readiness.report().await.parts.is_empty());
    }
}
