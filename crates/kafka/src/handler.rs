//! What a worker tells the consume loop.

use std::{borrow::Cow, future::Future, time::Duration};

use crate::record::{Partition, Record};

/// The work on a topic's records. It never touches offsets, and it never waits for a dependency to
/// come back: it says [`Failure::Unavailable`], and the loop waits without losing the group.
pub trait Handler: Send {
    /// Works on records, of one partition after the other, each partition's in offset order; there is
    /// at least one. A record may have been handled before, so every effect must be idempotent. Calls
    /// never overlap, and no partition is revoked while one runs; where each partition has a handler of
    /// its own ([`Consumer::spawn_per_partition`](crate::Consumer::spawn_per_partition)), this holds for
    /// each of them, but the partition may be revoked meanwhile.
    ///
    /// Dead letters that are replayed come as records of the partition they were in.
    ///
    /// Answers one [`Settled`] per record, in order. An `Err` settles none of them: they come again,
    /// each partition's by themselves.
    fn handle(&mut self, batch: &[Record]) -> impl Future<Output = Result<Vec<Settled>, Failure>> + Send;

    /// The partition now belongs to another member: drop what is kept in memory for it. It may come
    /// back later, with records that others have handled in between.
    fn partition_revoked(&mut self, _partition: Partition) {}
}

/// How a record ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Done with. The label tells how in `consumer_records_settled_total`, so it comes from a small
    /// closed set: `handled`, `quiet`, `stale`.
    Done(&'static str),
    /// It is of a type that this version does not know, and was left alone.
    Skipped,
    /// It would fail the same way for ever: it becomes a dead letter.
    Rejected(Reject),
}

impl Settled {
    /// A record that is rejected because of `reason`; see [`Reject::new`].
    #[must_use]
    pub fn rejected(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Rejected(Reject::new(reason))
    }
}

/// Why a record was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// For a person to read. It is kept in a header of the dead letter and logged, so it must not
    /// repeat the record's content.
    pub reason: Cow<'static, str>,
}

impl Reject {
    /// A reason such as `the value is not JSON`.
    #[must_use]
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Why a batch could not be settled.
#[derive(Debug)]
pub enum Failure {
    /// A dependency is away: their partitions are paused and the same records are tried again.
    Unavailable {
        /// When the dependency said to come back.
        retry_after: Option<Duration>,
        /// What happened; logged, so without secrets.
        source: anyhow::Error,
    },
    /// We are wrong, not the record: the consumer stops with the offset unstored.
    Broken(anyhow::Error),
}

impl Failure {
    /// A dependency is away for an unknown time.
    pub fn unavailable(source: impl Into<anyhow::Error>) -> Self {
        Self::Unavailable { retry_after: None, source: source.into() }
    }

    /// We are wrong.
    pub fn broken(source: impl Into<anyhow::Error>) -> Self {
        Self::Broken(source.into())
    }
}
