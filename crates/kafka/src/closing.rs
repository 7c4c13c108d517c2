//! A client closes on a thread of its own.
//!
//! Closing waits for the broker, and without end while that is away: `rdkafka` polls until librdkafka says that the
//! consumer is closed. So no task waits for it, however the task ends: a thread closes the client, and a process that
//! ends leaves the thread behind.

use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _, ConsumerContext, StreamConsumer};
use scopeguard::ScopeGuard;
use tokio::sync::oneshot;

/// How long closing a member of a group may take: the last commit, and leaving the group.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A client that is closed on a thread of its own when it goes out of scope.
pub(crate) type SelfClosing<C> = ScopeGuard<C, fn(C)>;

pub(crate) fn self_closing<C: Send + 'static>(client: C) -> SelfClosing<C> {
    scopeguard::guard(client, |client| on_thread(move || drop(client)))
}

/// Commits what `client` has stored, leaves the group, and waits for that as long as [`CLOSE_LIMIT`].
pub(crate) async fn leave_group<C: ConsumerContext + 'static>(client: SelfClosing<StreamConsumer<C>>, topic: &str) {
    let client = ScopeGuard::into_inner(client);
    let (closed, closing) = oneshot::channel();
    on_thread(move || {
        if let Err(error) = client.commit_consumer_state(CommitMode::Sync) {
            // There may be nothing to commit; and what was not committed is redelivered.
            tracing::debug!("last commit: {error}");
        }
        drop(client);
        closed.send(()).ok();
    });
    if tokio::time::timeout(CLOSE_LIMIT, closing).await.is_err() {
        tracing::warn!(
            "the consumer of {topic} was not closed within {CLOSE_LIMIT:?}: its last records will come again"
        );
    }
}

fn on_thread(close: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(close) {
        tracing::warn!("no thread to close a Kafka client on: {error}");
    }
}
