//! Failures that were ordered beforehand.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Mutex, PoisonError},
};

/// A queue of failures for each key.
pub(crate) struct Script<K, F> {
    queues: Mutex<HashMap<K, VecDeque<Order<F>>>>,
}

struct Order<F> {
    failure: F,
    /// How many times it happens yet; without a number until it is cleared.
    left: Option<u32>,
}

impl<K: Eq + Hash, F: Clone> Script<K, F> {
    pub(crate) fn new() -> Self {
        Self { queues: Mutex::default() }
    }

    /// Orders a failure behind those that were ordered before.
    pub(crate) fn order(&self, key: K, failure: F, times: Option<u32>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.entry(key).or_default().push_back(Order { failure, left: times });
    }

    pub(crate) fn clear(&self, key: &K) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Takes the next failure of the first key that has one.
    pub(crate) fn next(&self, keys: &[K]) -> Option<F> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            let Some(queue) = queues.get_mut(key) else { continue };
            while let Some(order) = queue.front_mut() {
                match &mut order.left {
                    None => return Some(order.failure.clone()),
                    Some(0) => queue.pop_front(),
                    Some(left) => {
                        *left -= 1;
                        return Some(order.failure.clone());
                    }
                };
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_in_the_order_they_were_ordered() {
        let script = Script::new();
        script.order("a", 1, Some(2));
        script.order("a", 2, Some(1));
        script.order("all", 3, None);
        let taken: Vec<_> = (0..5).map(|_| script.next(&["a", "all"])).collect();
        assert_eq!(taken, [Some(1), Some(1), Some(2), Some(3), Some(3)]);
        script.clear(&"all");
        assert_eq!(script.next(&["a", "all"]), None);
    }
}
