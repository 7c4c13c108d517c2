//! The bodies of requests and answers, as the OpenAPI document describes them, and the document's frame. Requests are
//! read field by field (see `decode`); their types here are only described.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use utoipa::{OpenApi, ToSchema};
use uuid::Uuid;

use crate::core::{undelivered::Undelivered, user::User};

/// The frame of the document; the calls add themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "user-manager",
        description = "Who is registered, and where each of them reads Telegram.\n\n\
            Errors are application/problem+json (RFC 9457) with a short text in `error`. Every call may also answer \
            400 (malformed JSON), 413 (a body over 64 KiB), 415 (not JSON in UTF-8), and 503 with Retry-After when \
            the database is away. Unknown fields are ignored; of a field that is repeated the last counts.\n\n\
            An Idempotency-Key belongs to the e-mail address in the body or path and is kept for 24 hours. The same \
            request again is answered as before, with `Idempotent-Replayed: true`; another request with that key is \
            422, and 409 with Retry-After while the first is running."
    ),
    tags((name = "users", description = "Registrations"))
)]
pub struct Api;

/// A user who registers.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read field by field")]
pub struct NewUserBody {
    /// Trimmed, and compared without case. It cannot be changed later.
    #[schema(example = "ada@example.org")]
    email: String,
    #[schema(min_length = 1, max_length = 100, example = "Ada")]
    first_name: String,
    #[schema(min_length = 1, max_length = 100, example = "Lovelace")]
    last_name: String,
    /// Letters and digits, at most 32; spaces, dashes, dots and slashes are dropped. No other user may have it.
    #[schema(example = "LVLDAA15T50Z114P")]
    tax_code: Option<String>,
    /// Checked by structure and check digits (ISO 13616); spaces are dropped.
    #[schema(example = "IT60X0542811101000000123456")]
    iban: Option<String>,
}

/// What is to be different. What is left out stays as it is. `email` may be sent along as it is;
/// another one is refused with 422.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read field by field")]
pub struct ChangesBody {
    #[schema(min_length = 1, max_length = 100)]
    first_name: String,
    #[schema(min_length = 1, max_length = 100)]
    last_name: String,
    /// Null forgets it.
    tax_code: Option<String>,
    /// Null forgets it.
    iban: Option<String>,
}

/// Where a user reads Telegram.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read field by field")]
pub struct ChatLinkBody {
    #[schema(example = "ada@example.org")]
    email: String,
    /// A number other than 0, or a string of one; negative for a group.
    #[schema(value_type = i64, example = 123_456_789)]
    telegram_chat_id: i64,
}

/// What was done.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes answers that are written by hand")]
pub struct Message {
    #[schema(example = "User created successfully")]
    message: String,
}

/// A registered user.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserBody {
    /// Not shown: where a page ends.
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) id: Uuid,
    email: String,
    first_name: String,
    last_name: String,
    tax_code: Option<String>,
    iban: Option<String>,
    telegram_chat_id: Option<i64>,
    /// Absent when everything was delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    undelivered: Option<UndeliveredBody>,
}

/// Alerts of the last 30 days that could not be delivered.
#[derive(Serialize, ToSchema)]
#[schema(as = Undelivered)]
pub struct UndeliveredBody {
    #[schema(minimum = 1)]
    count: i64,
    /// When the last of them was given up.
    #[serde(serialize_with = "in_utc")]
    last_at: DateTime<Utc>,
    /// Why the last of them was given up, in a few words.
    #[schema(example = "the bot is blocked")]
    reason: String,
}

fn in_utc<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

impl From<Undelivered> for UndeliveredBody {
    fn from(undelivered: Undelivered) -> Self {
        Self { count: undelivered.count, last_at: undelivered.last_at, reason: undelivered.reason }
    }
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        Self {
            id: user.id.0,
            email: user.email,
            first_name: user.first_name,
            last_name: user.last_name,
            tax_code: user.tax_code,
            iban: user.iban,
            telegram_chat_id: user.telegram_chat_id,
            undelivered: user.undelivered.map(UndeliveredBody::from),
        }
    }
}
