//! What caused a piece of work, carried from an HTTP request through Kafka to the last effect.

use serde::{Deserialize, Serialize};

/// The request and the trace that a piece of work belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The id of the HTTP request that caused the work, where one did.
    pub request_id: Option<String>,
    /// W3C trace context, where the trace is sampled.
    pub traceparent: Option<String>,
}

impl Cause {
    /// Work that nobody asked for, such as a scheduled collection.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }
}
