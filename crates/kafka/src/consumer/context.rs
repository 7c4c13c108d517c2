use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use prometheus::IntGaugeVec;
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use serde::Deserialize;
use tokio::sync::Notify;

use super::membership::SharedMembership;
use crate::{
    client::ClientLog,
    metrics::BySource,
    names::Names,
    record::{Partition, Source},
};

/// A change of what is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rebalanced {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>),
}

/// Receives the client's callbacks, which run while the loop polls, and keeps them for its next turn.
///
/// With each partition that the group assigns, the client also takes the same partition of the retry
/// topic. The group does not assign that one: it might give it to another member, and a record that is
/// retried must meet what its partition's owner keeps in memory.
pub(super) struct Context {
    names: Names,
    lag: BySource<IntGaugeVec>,
    log: ClientLog,
    rebalances: Mutex<Vec<Rebalanced>>,
    has_rebalances: AtomicBool,
    rebalanced: Notify,
    assigned: Mutex<BTreeSet<i32>>,
    retries: Mutex<BTreeSet<i32>>,
    membership: SharedMembership,
}

impl Context {
    pub(super) fn new(names: Names, lag: BySource<IntGaugeVec>, membership: SharedMembership) -> Self {
        Self {
            names,
            lag,
            log: ClientLog::of("consumer"),
            rebalances: Mutex::default(),
            has_rebalances: AtomicBool::new(false),
            rebalanced: Notify::new(),
            assigned: Mutex::default(),
            retries: Mutex::default(),
            membership,
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

    /// Reports a problem that the client copes with by itself.
    pub(super) fn report(&self, what: &str) {
        self.log.report(what);
    }

    /// `partitions`, and the partitions of the retry topic that come and go with them.
    fn with_retries(&self, partitions: &TopicPartitionList, numbers: &BTreeSet<i32>) -> TopicPartitionList {
        let mut all = partitions.clone();
        for number in numbers {
            all.add_partition(&self.names.retry_topic, *number);
        }
        all
    }

    fn assign(&self, client: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let new: BTreeSet<_> = numbers(partitions).map(|partition| partition.0).collect();
        let new: BTreeSet<_> = new.difference(&retries).copied().collect();
        match client.incremental_assign(&self.with_retries(partitions, &new)) {
            Ok(()) => retries.extend(new),
            Err(error) => {
                self.log.report(&format!("assign partitions of {}: {error}", self.names.retry_topic));
                if let Err(error) = client.incremental_assign(partitions) {
                    self.log.report(&format!("assign partitions: {error}"));
                }
            }
        }
    }

    fn unassign(&self, client: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: BTreeSet<_> = numbers(partitions).filter_map(|partition| retries.take(&partition.0)).collect();
        if let Err(error) = client.incremental_unassign(&self.with_retries(partitions, &gone)) {
            self.log.report(&format!("give partitions back: {error}"));
            if let Err(error) = client.incremental_unassign(partitions) {
                self.log.report(&format!("give partitions back: {error}"));
            }
        }
    }

    fn note(&self, change: Rebalanced) {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        match &change {
            Rebalanced::Assigned(partitions) => {
                assigned.extend(partitions.iter().map(|partition| partition.0));
                // Statistics come every few seconds only.
                self.membership.lock().unwrap_or_else(PoisonError::into_inner).note(true, Instant::now());
            }
            Rebalanced::Revoked(partitions) => {
                for partition in partitions {
                    assigned.remove(&partition.0);
                    // There is nothing to remove when no statistics came while it was ours.
                    for source in [Source::Topic, Source::Retry] {
                        self.lag.of(source).remove_label_values(&[&partition.to_string()]).ok();
                    }
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
        self.log.line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let statistics: Statistics = match serde_json::from_slice(statistics) {
            Ok(statistics) => statistics,
            Err(error) => return tracing::debug!("read the client's statistics: {error}"),
        };
        let assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        for source in [Source::Topic, Source::Retry] {
            let lags = statistics.lags(self.names.topic(source));
            for (partition, lag) in lags.filter(|(partition, _)| assigned.contains(partition)) {
                self.lag.of(source).with_label_values(&[&partition.to_string()]).set(lag);
            }
        }
        drop(assigned);
        let mut membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        if membership.note(statistics.is_steady(), Instant::now()) {
            self.rebalanced.notify_one();
        }
    }
}

impl ConsumerContext for Context {
    // As the default does for the cooperative protocol, which is the one that our consumers speak.
    fn rebalance(&self, client: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.assign(client, partitions);
                self.note(Rebalanced::Assigned(numbers(partitions).collect()));
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                self.note(Rebalanced::Revoked(numbers(partitions).collect()));
                self.unassign(client, partitions);
            }
            kind => {
                self.log.report(&format!("rebalance: {}", RDKafkaErrorCode::from(kind)));
                self.unassign(client, partitions);
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // The next commit covers it, or another member has the partition now.
            tracing::debug!("commit: {error}");
        }
    }
}

fn numbers(partitions: &TopicPartitionList) -> impl Iterator<Item = Partition> {
    partitions.elements().into_iter().map(|element| Partition(element.partition()))
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
    /// committed; where neither is (nothing was ever settled), everything there is.
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
