//! What `/readyz` says about a consumer's place in its group.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use runtime::readiness::{Criticality, HealthPart, Readiness};

use crate::{
    core::membership::{Membership, Standing},
    names::Names,
    producer::{PROBE_LIMIT, Producer},
};

/// How often the answer is brought up to date.
const INTERVAL: Duration = Duration::from_secs(1);

/// The membership that the clients of one consumer share, since a client may be replaced.
pub(super) type SharedMembership = Arc<Mutex<Membership>>;

/// The consumer's part of `/readyz`.
pub(super) struct MembershipReport {
    membership: SharedMembership,
    names: Names,
    /// Another client, which is asked whether Kafka answers.
    other: Producer,
    part: HealthPart,
}

impl MembershipReport {
    pub(super) fn new(membership: SharedMembership, names: &Names, other: &Producer, readiness: &Readiness) -> Self {
        let part = readiness.part(format!("consumer of {names}"), Criticality::Required, "not started");
        part.up_with("not started");
        Self { membership, names: names.clone(), other: other.clone(), part }
    }

    /// Keeps the part up to date, and never ends.
    pub(super) async fn run(&self) -> Infallible {
        let mut was_out = false;
        loop {
            let now = Instant::now();
            let standing = self.membership.lock().unwrap_or_else(PoisonError::into_inner).standing(now);
            let is_out = matches!(standing, Standing::Out(_));
            match standing {
                Standing::Member(since) => self.part.up_with(format!("member since {}", ago(now - since))),
                Standing::Joining(absent) => self.part.up_with(format!("joining its group for {} s", absent.as_secs())),
                Standing::Out(absent) => {
                    self.part.down(format!("not a member of its group for {} s", absent.as_secs()))
                }
            }
            if is_out && !was_out {
                tracing::warn!("the consumer of {} cannot join its group", self.names);
            } else if was_out && matches!(standing, Standing::Member(_)) {
                tracing::info!("the consumer of {} is a member of its group again", self.names);
            }
            was_out = is_out;
            if !matches!(standing, Standing::Member(_)) && !kafka_answers(&self.other, &self.names).await {
                let mut membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
                membership.kafka_is_away(Instant::now());
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// Whether Kafka answers another client than the consumer's.
pub(super) async fn kafka_answers(other: &Producer, names: &Names) -> bool {
    other.probe(&names.topic, PROBE_LIMIT).await.is_ok()
}

/// The time that was so long ago.
fn ago(elapsed: Duration) -> String {
    let elapsed = TimeDelta::from_std(elapsed).unwrap_or_default();
    (Utc::now() - elapsed).format("%FT%TZ").to_string()
}
