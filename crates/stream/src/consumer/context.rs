use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus::IntGaugeVec;
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult},
};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::{client::Words, core::membership::Membership, record::Partition};

/// A change of what is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rebalanced {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>),
}

/// Hears the client's callbacks, which run while the loop polls, and keeps them for its next turn.
pub(super) struct Context {
    topic: String,
    lag: IntGaugeVec,
    words: Words,
    rebalances: Mutex<Vec<Rebalanced>>,
    has_rebalances: AtomicBool,
    rebalanced: Notify,
    assigned: Mutex<BTreeSet<i32>>,
    membership: Mutex<Membership>,
}

impl Context {
    pub(super) fn new(topic: &str, lag: IntGaugeVec, patience: Duration) -> Self {
        Self {
            topic: topic.to_owned(),
            lag,
            words: Words::of("consumer"),
            rebalances: Mutex::default(),
            has_rebalances: AtomicBool::new(false),
            rebalanced: Notify::new(),
            assigned: Mutex::default(),
            membership: Mutex::new(Membership::new(patience)),
        }
    }

    /// What changed since this was last asked, in order.
    pub(super) fn take_rebalances(&self) -> Vec<Rebalanced> {
        if !self.has_rebalances.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.rebalances.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the client has been no steady member of its group for too long; asked again only
    /// after as long again.
    pub(super) fn take_overdue(&self) -> bool {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner).take_overdue(Instant::now())
    }

    /// Waits for a change.
    pub(super) async fn rebalanced(&self) {
        self.rebalanced.notified().await;
    }

    /// Notes a trouble that the client copes with by itself.
    pub(super) fn trouble(&self, what: &str) {
        self.words.trouble(what);
    }

    fn note(&self, change: Rebalanced) {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        match &change {
            Rebalanced::Assigned(partitions) => assigned.extend(partitions.iter().map(|partition| partition.0)),
            Rebalanced::Revoked(partitions) => {
                for partition in partitions {
                    assigned.remove(&partition.0);
                    // There is nothing to remove when no statistics came while it was ours.
                    self.lag.remove_label_values(&[&self.topic, &partition.to_string()]).ok();
                }
            }
        }
        drop(assigned);
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        self.has_rebalances.store(true, Ordering::Release);
        self.rebalanced.notify_one();
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.words.line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.words.error(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let statistics: Statistics = match serde_json::from_slice(statistics) {
            Ok(statistics) => statistics,
            Err(error) => return tracing::debug!("read the client's statistics: {error}"),
        };
        let assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, lag) in statistics.lags(&self.topic).filter(|(partition, _)| assigned.contains(partition)) {
            self.lag.with_label_values(&[&self.topic, &partition.to_string()]).set(lag);
        }
        drop(assigned);
        let mut membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        if membership.note(statistics.is_steady(), Instant::now()) {
            self.rebalanced.notify_one();
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(_) => {}
            Rebalance::Revoke(partitions) => self.note(Rebalanced::Revoked(numbers(partitions))),
            Rebalance::Error(error) => self.words.trouble(&format!("rebalance: {error}")),
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            self.note(Rebalanced::Assigned(numbers(partitions)));
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // The next commit covers it, or somebody else has the partition now.
            tracing::debug!("commit: {error}");
        }
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<Partition> {
    partitions.elements().iter().map(|element| Partition(element.partition())).collect()
}

/// Of the fields in librdkafka's `STATISTICS.md`.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    topics: BTreeMap<String, TopicStatistics>,
    cgrp: Option<GroupStatistics>,
}

#[derive(Deserialize)]
struct TopicStatistics {
    #[serde(default)]
    partitions: BTreeMap<String, PartitionStatistics>,
}

#[derive(Deserialize)]
struct GroupStatistics {
    state: String,
    join_state: String,
}

/// Offsets and lags; -1 and below mean unknown.
#[derive(Deserialize)]
struct PartitionStatistics {
    partition: i32,
    consumer_lag_stored: i64,
    consumer_lag: i64,
    lo_offset: i64,
    hi_offset: i64,
}

impl Statistics {
    /// The lag of each partition whose lag is known: behind what is settled, else behind what is
    /// committed; where neither is (nobody has ever settled anything), everything there is.
    fn lags(&self, topic: &str) -> impl Iterator<Item = (i32, i64)> {
        let partitions = self.topics.get(topic).into_iter().flat_map(|topic| topic.partitions.values());
        partitions.filter(|partition| partition.partition >= 0).filter_map(|partition| {
            let everything = (partition.lo_offset >= 0).then(|| partition.hi_offset - partition.lo_offset);
            let candidates = [partition.consumer_lag_stored, partition.consumer_lag, everything.unwrap_or(-1)];
            Some((partition.partition, candidates.into_iter().find(|lag| *lag >= 0)?))
        })
    }

    /// Whether the client is a member of its group, with partitions or without.
    fn is_steady(&self) -> bool {
        self.cgrp.as_ref().is_none_or(|group| group.state == "up" && group.join_state == "steady")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(text: &str) -> Statistics {
        serde_json::from_str(text).expect("statistics")
    }

    #[test]
    fn the_lag_is_behind_what_is_settled_and_unknown_is_not_zero() {
        let read = statistics(
            r#"{"name": "rdkafka#consumer-1", "topics": {"t": {"topic": "t", "partitions": {
            "0": {"partition": 0, "consumer_lag_stored": 3, "consumer_lag": 9, "lo_offset": 0, "hi_offset": 20},
            "1": {"partition": 1, "consumer_lag_stored": -1, "consumer_lag": 9, "lo_offset": 0, "hi_offset": 20},
            "2": {"partition": 2, "consumer_lag_stored": -1, "consumer_lag": -1, "lo_offset": 5, "hi_offset": 20},
            "3": {"partition": 3, "consumer_lag_stored": -1, "consumer_lag": -1, "lo_offset": -1001, "hi_offset": -1001},
            "-1": {"partition": -1, "consumer_lag_stored": 0, "consumer_lag": 0, "lo_offset": 0, "hi_offset": 0}
        }}}}"#,
        );
        assert_eq!(read.lags("t").collect::<Vec<_>>(), [(0, 3), (1, 9), (2, 15)]);
        assert_eq!(read.lags("other").count(), 0);
        assert_eq!(statistics("{}").lags("t").count(), 0);
    }

    #[test]
    fn only_a_member_that_has_joined_is_steady() {
        for (text, steady) in [
            ("{}", true),
            (r#"{"cgrp": {"state": "up", "join_state": "steady"}}"#, true),
            (r#"{"cgrp": {"state": "up", "join_state": "wait-join"}}"#, false),
            (r#"{"cgrp": {"state": "query-coord", "join_state": "steady"}}"#, false),
        ] {
            assert_eq!(statistics(text).is_steady(), steady, "{text}");
        }
    }
}
