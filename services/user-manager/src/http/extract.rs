//! What is taken from a request's head, in the order in which its faults are told.

use axum::{extract::FromRequestParts, http::request::Parts};
use events::EmailAddress;
use http_edge::{PathParam, Problem, idempotency::Key};

use super::not_found;

/// The idempotency key of a call that must have one.
pub struct RequiredKey(pub Key);

/// The idempotency key of a call that may go without.
pub struct OptionalKey(pub Option<Key>);

/// The address in the path. What cannot be one is no user's.
pub struct Addressed(pub EmailAddress);

impl<S: Send + Sync> FromRequestParts<S> for RequiredKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Key::required(&parts.headers).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OptionalKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Key::optional(&parts.headers).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Addressed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let PathParam(email) = PathParam::from_request_parts(parts, state).await?;
        email.parse().map(Self).map_err(|_| not_found())
    }
}
