//! Asking OpenSky, with what it costs written down.

use chrono::NaiveDate;
use pg::lease::LeaseTerm;

use super::{CollectError, Collector};
use crate::{
    core::{
        boxes::BoundingBoxQuery,
        credits::Bucket,
        day::Direction,
        live::{self, StateSnapshot},
    },
    opensky::{ApiResponse, CallError, wire::Flight},
};

impl Collector {
    /// Asks for a box; what went wrong is the inner error.
    pub(super) async fn ask_states(
        &self,
        term: &LeaseTerm,
        call: &BoundingBoxQuery,
    ) -> Result<Result<StateSnapshot, CallError>, CollectError> {
        let asked_at = self.runtime.clock.now();
        let reply = self.unless_stopping(self.opensky.states(&call.area)).await?;
        let arrived_at = self.runtime.clock.now();
        self.settle(term, Bucket::States, call.cost(), &reply).await?;
        // A box always has an answer, if only an empty one: nothing there is no count.
        let snapshot = reply.content.and_then(|snapshot| snapshot.ok_or(CallError::Status(404)));
        Ok(snapshot.and_then(|snapshot| match snapshot.taken_at() {
            Some(time) if live::is_of_now(time, asked_at, arrived_at) => Ok(snapshot),
            Some(time) => Err(CallError::NotOfNow { seconds: (arrived_at - time).num_seconds() }),
            None => Err(CallError::NotOfNow { seconds: i64::MAX }),
        }))
    }

    /// Asks for a day of an airport; none is "nothing there".
    pub(super) async fn ask_flights(
        &self,
        term: &LeaseTerm,
        airport: &str,
        direction: Direction,
        day: NaiveDate,
        cost: u32,
    ) -> Result<Result<Option<Vec<Flight>>, CallError>, CollectError> {
        let reply = self.unless_stopping(self.opensky.flights(airport, direction, day)).await?;
        self.settle(term, Bucket::Flights, cost, &reply).await?;
        Ok(reply.content)
    }

    async fn unless_stopping<T>(&self, call: impl Future<Output = T>) -> Result<T, CollectError> {
        tokio::select! {
            () = self.runtime.tasks.stopping().cancelled() => Err(CollectError::Stopping),
            answer = call => Ok(answer),
        }
    }

    /// Writes down what a question has cost, and how long the source wants silence.
    async fn settle<T>(
        &self,
        term: &LeaseTerm,
        bucket: Bucket,
        cost: u32,
        reply: &ApiResponse<T>,
    ) -> Result<(), CollectError> {
        let now = self.runtime.clock.now();
        match (&reply.content, reply.remaining) {
            (Err(CallError::TooManyRequests { seconds }), _) => {
                tracing::warn!(
                    "opensky {}: too many requests, silent for {}",
                    bucket.as_str(),
                    seconds.map_or_else(|| "an hour".to_owned(), |seconds| format!("{seconds} s"))
                );
                self.record_credits(term, bucket, |credits| credits.after_refusal(now, *seconds)).await
            }
            (Err(error), None) if !error.may_have_cost() => Ok(()),
            (_, header) => self.record_credits(term, bucket, |credits| credits.after_call(cost, header, now)).await,
        }
    }
}
