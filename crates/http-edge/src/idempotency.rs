//! A mutation that is sent twice happens once.
//!
//! A key belongs to its caller: to the principal who asks, or, where the caller has not signed in, to the e-mail
//! address that an anonymous request names. So two principals with the same key never meet. The effect, the key and the
//! answer are written in one transaction, so a crash leaves all of them or none. While a first attempt runs, others are
//! answered at once: an advisory lock of the transaction says so without waiting. Validation failures are not stored;
//! client errors that reached the business rules are, and replay as they were.
//!
//! A key is kept for a day, and counts as long as it is kept. It is removed by a clock that has run without a step for an
//! hour ([`SteadyClock`]): one that leaps ahead would make all keys old, and repeat what they protect.
//!
//! Every service that uses this has the table `idempotency_keys` in its migrations.

use std::{borrow::Cow, time::Duration};

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use pg::{Pool, Transaction, clock::SteadyClock};
use runtime::{periodic::Periodic, principal::Principal};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgExecutor, Row};

use super::Problem;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The longest key that is accepted.
const KEY_LENGTH: usize = 255;

/// How often keys older than a day are removed, and the clock is looked at.
const CLEANING_INTERVAL: Duration = Duration::from_secs(60);
/// How long that may take.
const CLEANING_LIMIT: Duration = Duration::from_secs(60);
/// How long the clock of a clean-up must have run without a step: longer than it takes to correct one, and short enough
/// for a machine that is off at night.
pub const STEADY_TIME: Duration = Duration::from_secs(3600);

/// The key that came with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

/// What makes a request the same as an earlier one.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint<'a> {
    /// Whose key it is.
    pub principal: &'a Principal,
    /// Whose key it is when the principal is anonymous: the e-mail address in the request's body or path.
    pub caller: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The path without the service's prefix.
    pub path: &'a str,
    /// The body as it was sent.
    pub body: &'a [u8],
}

/// What a first look at the key found.
pub enum Begun {
    /// The request was answered before; this is that answer.
    Replayed(Response),
    /// The request is new, or carries no key.
    Fresh(IdempotentTransaction),
}

/// A transaction in which the effect, the key and the answer are written together.
pub struct IdempotentTransaction {
    transaction: Transaction,
    key: Option<StoredKey>,
}

struct StoredKey {
    principal: Cow<'static, str>,
    /// [`nameless`].
    caller: String,
    key: String,
    request: Vec<u8>,
}

/// A successful answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Value,
}

impl Key {
    /// The key of a request that may go without one.
    ///
    /// # Errors
    /// 400 when there is a key that cannot be one.
    pub fn optional(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        let key = value.to_str().map(str::trim).unwrap_or_default();
        if key.is_empty() || key.len() > KEY_LENGTH {
            let error = format!("Idempotency-Key must have 1 to {KEY_LENGTH} visible ASCII characters");
            return Err(Problem::new(StatusCode::BAD_REQUEST, error));
        }
        Ok(Some(Self(key.to_owned())))
    }

    /// The key of a request that must have one.
    ///
    /// # Errors
    /// 400 when there is none, or one that cannot be a key.
    pub fn required(headers: &HeaderMap) -> Result<Self, Problem> {
        let blank = headers.get(IDEMPOTENCY_KEY).is_some_and(|value| value.as_bytes().trim_ascii().is_empty());
        let key = if blank { None } else { Self::optional(headers)? };
        key.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "Idempotency-Key header is required"))
    }
}

/// Begins the transaction of a mutation, or finds the answer of an earlier attempt.
///
/// # Errors
/// 409 while an earlier attempt runs, 422 when the key was used for another request, 503 when the
/// database is away.
pub async fn begin(pool: &Pool, key: Option<Key>, request: Fingerprint<'_>) -> Result<Begun, Problem> {
    let mut transaction = pg::begin_as(pool, request.principal).await?;
    let Some(Key(key)) = key else { return Ok(Begun::Fresh(IdempotentTransaction { transaction, key: None })) };
    let stored = StoredKey::of(key, request);
    let earlier = find(&mut transaction, &stored).await?;
    if matches!(earlier, Earlier::None) {
        // Client errors undo the effect and keep the key, so the effect is behind a savepoint.
        sqlx::query("SAVEPOINT effect").execute(&mut *transaction).await?;
        return Ok(Begun::Fresh(IdempotentTransaction { transaction, key: Some(stored) }));
    }
    // The key's lock goes at once, so that the next caller does not find this look still going on.
    if let Err(error) = transaction.rollback().await {
        tracing::debug!("end a look at a key: {error}");
    }
    earlier.answer()?.map_or_else(|| Err(running()), |answer| Ok(Begun::Replayed(answer)))
}

/// Looks a key up without beginning anything, so that a caller that has to ask elsewhere before it begins need not
/// keep a connection meanwhile. The answer of an earlier attempt, if there is one; what [`begin`] finds still counts.
///
/// # Errors
/// 422 when the key was used for another request, 503 when the database is away.
pub async fn replay(pool: &Pool, key: &Key, request: Fingerprint<'_>) -> Result<Option<Response>, Problem> {
    let key = StoredKey::of(key.0.clone(), request);
    pg::read(pool, || stored(pool, &key)).await?.answer()
}

fn running() -> Problem {
    let error = "Request with this Idempotency-Key is already in progress";
    Problem::new(StatusCode::CONFLICT, error).retry_after(Duration::from_secs(1))
}

enum Earlier {
    None,
    Running,
    OfAnotherRequest,
    Answered(Response),
}

impl Earlier {
    fn answer(self) -> Result<Option<Response>, Problem> {
        match self {
            Self::None => Ok(None),
            Self::Running => Err(running()),
            Self::OfAnotherRequest => {
                let error = "Idempotency-Key was already used for another request";
                Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error))
            }
            Self::Answered(response) => Ok(Some(response)),
        }
    }
}

impl StoredKey {
    fn of(key: String, request: Fingerprint<'_>) -> Self {
        let principal = request.principal.key();
        let caller = if *request.principal == Principal::Anonymous { request.caller } else { &principal };
        Self { caller: nameless(caller), principal, key, request: fingerprint(request) }
    }
}

async fn find(connection: &mut PgConnection, key: &StoredKey) -> sqlx::Result<Earlier> {
    let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("idempotency {} {}", key.caller, key.key))
        .fetch_one(&mut *connection)
        .await?;
    if !locked {
        return Ok(Earlier::Running);
    }
    stored(connection, key).await
}

/// What is stored under the key. It counts as long as it is stored, whatever the clock shows now.
async fn stored(connection: impl PgExecutor<'_>, key: &StoredKey) -> sqlx::Result<Earlier> {
    let row = sqlx::query(
        "SELECT request, status, body FROM idempotency_keys
         WHERE principal = $1 AND caller = $2 AND key = $3",
    )
    .bind(&*key.principal)
    .bind(&key.caller)
    .bind(&key.key)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(Earlier::None) };
    if row.try_get::<Vec<u8>, _>("request")? != key.request {
        return Ok(Earlier::OfAnotherRequest);
    }
    let status = u16::try_from(row.try_get::<i16, _>("status")?).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let mut response = stored_response(status.unwrap_or(StatusCode::OK), row.try_get("body")?);
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(Earlier::Answered(response))
}

fn stored_response(status: StatusCode, body: String) -> Response {
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// A caller as the table knows them: keys outlive a deletion by a day, and addresses should not.
fn nameless(caller: &str) -> String {
    format!("{:x}", Sha256::digest(caller))
}

fn fingerprint(request: Fingerprint<'_>) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in [request.method.as_str().as_bytes(), request.path.as_bytes(), request.body] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

impl IdempotentTransaction {
    /// The connection on which the effect belongs.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Writes the answer with the effect. An answer of 4xx undoes the effect and is kept; one of
    /// 5xx undoes everything, so that the caller may try again.
    ///
    /// # Errors
    /// `outcome`'s own problem, or 503 when the database went away.
    pub async fn finish(self, outcome: Result<Answer, Problem>) -> Result<Response, Problem> {
        let (status, body) = match &outcome {
            Ok(answer) => (answer.status, answer.body.to_string()),
            Err(problem) if problem.status().is_client_error() => (problem.status(), problem.body()),
            Err(_) => {
                // At once, and not when the connection is used next: a client that tries again must not find this
                // attempt still running.
                if let Err(error) = self.transaction.rollback().await {
                    tracing::debug!("undo an attempt: {error}");
                }
                return outcome.map(IntoResponse::into_response);
            }
        };
        self.write(status, &body).await.map_err(|error| crate::database::problem(&error))?;
        outcome.map(IntoResponse::into_response)
    }

    async fn write(mut self, status: StatusCode, body: &str) -> sqlx::Result<()> {
        let Some(key) = self.key else {
            return if status.is_success() { self.transaction.commit().await } else { Ok(()) };
        };
        if !status.is_success() {
            sqlx::query("ROLLBACK TO SAVEPOINT effect").execute(&mut *self.transaction).await?;
        }
        sqlx::query(
            "INSERT INTO idempotency_keys (principal, caller, key, request, status, body)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (caller, key) DO UPDATE
             SET request = excluded.request, status = excluded.status, body = excluded.body, created_at = now()",
        )
        .bind(&*key.principal)
        .bind(&key.caller)
        .bind(&key.key)
        .bind(&key.request)
        .bind(i16::try_from(status.as_u16()).unwrap_or(i16::MAX))
        .bind(body)
        .execute(&mut *self.transaction)
        .await?;
        self.transaction.commit().await
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

/// Removes keys that are older than a day, by a clock that may be trusted.
#[must_use]
pub fn clean_up(pool: Pool, clock: SteadyClock) -> Periodic {
    Periodic::new("clean-up of idempotency keys", CLEANING_INTERVAL, CLEANING_LIMIT, move || {
        let (pool, clock) = (pool.clone(), clock.clone());
        async move { Ok(remove_old(&pool, &clock).await?) }
    })
}

/// One look at the clock, and one removal of keys that are older than a day by it.
///
/// # Errors
/// When the database is away.
pub async fn remove_old(pool: &Pool, clock: &SteadyClock) -> sqlx::Result<()> {
    let Some(mut transaction) = clock.begin(pool).await? else { return Ok(()) };
    // A key from the future was written before the database's clock stepped back. Its day begins now, so that it still
    // protects its request and is not kept for as long as the step was.
    let dating = "UPDATE idempotency_keys SET created_at = now() WHERE created_at > now() + interval '1 minute'";
    sqlx::query(dating).execute(&mut *transaction).await?;
    let removing = "DELETE FROM idempotency_keys WHERE created_at <= now() - interval '24 hours'";
    sqlx::query(removing).execute(&mut *transaction).await?;
    transaction.commit().await
}
