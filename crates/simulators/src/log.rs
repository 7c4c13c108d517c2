//! What a simulator was asked: remembered, and waited for.

use std::{
    collections::VecDeque,
    fmt::Debug,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use tokio::sync::watch;

/// The newest entries, up to a limit: a demo may run for days.
pub(crate) struct Log<T> {
    entries: Mutex<VecDeque<T>>,
    most: usize,
    written: watch::Sender<u64>,
}

impl<T: Clone + Debug> Log<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: Mutex::default(), most, written: watch::Sender::new(0) }
    }

    pub(crate) fn push(&self, entry: T) {
        let mut entries = self.lock();
        if entries.len() == self.most {
            entries.pop_front();
        }
        entries.push_back(entry);
        drop(entries);
        self.written.send_modify(|count| *count += 1);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.lock().iter().cloned().collect()
    }

    /// Those that `wanted` takes, without copying the others.
    pub(crate) fn filter(&self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        self.lock().iter().filter(|entry| wanted(entry)).cloned().collect()
    }

    /// Waits until `enough` holds of what was written.
    pub(crate) async fn wait_for(&self, limit: Duration, enough: impl Fn(&[T]) -> bool) -> anyhow::Result<Vec<T>> {
        let mut written = self.written.subscribe();
        let waited = tokio::time::timeout(limit, async {
            loop {
                written.borrow_and_update();
                let all = self.all();
                if enough(&all) {
                    return all;
                }
                // The sender lives as long as the log, which is borrowed here.
                if written.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        });
        waited.await.map_err(|_| anyhow!("not within {limit:?}; there was {:#?}", self.all()))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_entries_are_kept() {
        let log = Log::new(2);
        for entry in 1..=3 {
            log.push(entry);
        }
        assert_eq!(log.all(), [2, 3]);
        assert_eq!(log.filter(|entry| *entry > 2), [3]);
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_entry_or_says_what_there_was() {
        let log = Log::new(9);
        let waiting = log.wait_for(Duration::from_secs(5), |all| all.len() == 2);
        let writing = async {
            log.push("one");
            tokio::task::yield_now().await;
            log.push("two");
        };
        let (waited, ()) = tokio::join!(waiting, writing);
        assert_eq!(waited.expect("both"), ["one", "two"]);
        let error = log.wait_for(Duration::from_millis(1), |all| all.len() == 3).await.expect_err("two only");
        assert!(error.to_string().contains("two"), "{error}");
    }
}
