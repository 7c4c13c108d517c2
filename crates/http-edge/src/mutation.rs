//! A mutation under an idempotency key, from its first look at the key to its answer.

use axum::response::{IntoResponse, Response};
use pg::Pool;
use sqlx::PgConnection;

use super::{
    Problem,
    idempotency::{Answer, Begun, Fingerprint, Key, begin, replay},
};

/// A mutation that is asked for.
pub struct Mutation<'a> {
    /// The key that came with it.
    pub key: Option<Key>,
    /// What makes it the same as an earlier one.
    pub request: Fingerprint<'a>,
}

/// A mutation that has been answered.
#[must_use]
pub enum Settled {
    /// The effect has been committed.
    Done(Response),
    /// An earlier attempt had the effect; this is its answer.
    Replayed(Response),
}

impl Mutation<'_> {
    /// The answer of an earlier attempt. Neither a connection nor a lock is held afterwards, so that another service
    /// can be asked before [`Mutation::settle`], which decides.
    ///
    /// # Errors
    /// 422 when the key was used for another request, 503 when the database is away.
    pub async fn replay(&self, pool: &Pool) -> Result<Option<Response>, Problem> {
        match &self.key {
            Some(key) => replay(pool, key, self.request).await,
            None => Ok(None),
        }
    }

    /// Has `effect` once, in one transaction with its key and answer, begun as the principal who asks. An effect that
    /// is refused with 4xx is undone, and its answer kept; of 5xx nothing is kept.
    ///
    /// # Errors
    /// `effect`'s own problem; 409 while an earlier attempt runs, 422 when the key was used for another request, 503
    /// when the database is away.
    pub async fn settle<F>(self, pool: &Pool, effect: F) -> Result<Settled, Problem>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<Answer, Problem>,
    {
        let mut attempt = match begin(pool, self.key, self.request).await? {
            Begun::Replayed(answer) => return Ok(Settled::Replayed(answer)),
            Begun::Fresh(attempt) => attempt,
        };
        let outcome = effect(attempt.connection()).await;
        attempt.finish(outcome).await.map(Settled::Done)
    }
}

impl Settled {
    /// Whether this attempt had the effect.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

impl IntoResponse for Settled {
    fn into_response(self) -> Response {
        match self {
            Self::Done(response) | Self::Replayed(response) => response,
        }
    }
}
