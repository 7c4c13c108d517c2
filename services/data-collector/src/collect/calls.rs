//! Asking OpenSky, with what it costs written down.

use chrono::NaiveDate;
use shell::lease::Term;

use super::{Collector, TurnError};
use crate::{
    core::{
        boxes::BoxCall,
        credits::Bucket,
        day::Direction,
        live::{self, Sky},
    },
    opensky::{CallError, Reply, wire::Flight},
};

impl Collector {
    /// Asks for a box; what went wrong is the inner error.
    pub(super) async fn ask_states(&self, term: &Term, call: &BoxCall) -> Result<Result<Sky, CallError>, TurnError> {
        let asked_at = self.shell.clock.now();
        let reply = self.unless_stopping(self.opensky.states(&call.area)).await?;
        let arrived_at = self.shell.clock.now();
        self.settle(term, Bucket::States, call.cost(), &reply).await?;
        // A box always has an answer, if only an empty one: nothing there is no count.
        let sky = reply.content.and_then(|sky| sky.ok_or(CallError::Status(404)));
        Ok(sky.and_then(|sky| match sky.taken_at() {
            Some(time) if live::is_of_now(time, asked_at, arrived_at) => Ok(sky),
            Some(time) => Err(CallError::NotOfNow { seconds: (arrived_at - time).num_seconds() }),
            None => Err(CallError::NotOfNow { seconds: i64::MAX }),
        }))
    }

    /// Asks for a day of an airport; none is "nothing there".
    pub(super) async fn ask_flights(
        &self,
        term: &Term,
        airport: &str,
        direction: Direction,
        day: NaiveDate,
        cost: u32,
    ) -> Result<Result<Option<Vec<Flight>>, CallError>, TurnError> {
        let reply = self.unless_stopping(self.opensky.flights(airport, direction, day)).await?;
        self.settle(term, Bucket::Flights, cost, &reply).await?;
        Ok(reply.content)
    }

    async fn unless_stopping<T>(&self, call: impl Future<Output = T>) -> Result<T, TurnError> {
        tokio::select! {
            () = self.shell.tasks.stopping().cancelled() => Err(TurnError::Stopping),
            answer = call => Ok(answer),
        }
    }

    /// Writes down what a question has cost, and how long the source wants silence.
    async fn settle<T>(&self, term: &Term, bucket: Bucket, cost: u32, reply: &Reply<T>) -> Result<(), TurnError> {
        let now = self.shell.clock.now();
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
