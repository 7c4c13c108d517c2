use std::{sync::Arc, time::Duration};

use super::{
    OutgoingRecord, SendError,
    producer_client::{DeliveryTracker, ProducerClient},
};

/// How long to wait when the client's queue is full. Acknowledgements make room all the time; at the
/// latest the messages' own time-out of 8 s does.
const QUEUE_FULL_INTERVAL: Duration = Duration::from_millis(1);

/// After so many messages other tasks get their turn: handing one over takes about 3 µs.
const MESSAGES_PER_TURN: usize = 256;

/// Messages on their way together: [`Batch::send`] each, then wait for [`Batch::acknowledged`].
/// One buffer can be used for all of them. Dropping it forgets the answers, not the messages.
pub struct Batch {
    client: Arc<ProducerClient>,
    tracker: Arc<DeliveryTracker>,
    sent: usize,
}

impl Batch {
    pub(super) fn new(client: Arc<ProducerClient>) -> Self {
        Self { client, tracker: Arc::new(DeliveryTracker::new()), sent: 0 }
    }

    /// Hands one message over, waiting for room where there is none. What goes wrong is told by
    /// [`Batch::acknowledged`].
    pub async fn send(&mut self, message: &OutgoingRecord<'_>) {
        self.sent += 1;
        while !self.client.hand_over(message, &self.tracker) {
            tokio::time::sleep(QUEUE_FULL_INTERVAL).await;
        }
        if self.sent.is_multiple_of(MESSAGES_PER_TURN) {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until every message is acknowledged or has failed.
    ///
    /// # Errors
    /// When at least one has failed.
    pub async fn acknowledged(self) -> Result<(), SendError> {
        match self.tracker.all_answered().await {
            None => Ok(()),
            Some((failed, first)) => Err(SendError { sent: self.sent, failed, first }),
        }
    }
}
