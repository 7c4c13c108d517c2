//! What a caller is told when the database fails.

use axum::http::StatusCode;
use pg::{NotReached, is_unavailable};

use crate::Problem;

impl From<NotReached> for Problem {
    fn from(error: NotReached) -> Self {
        Self::unavailable("The database", &error)
    }
}

/// The answer to a caller whose request met this error: 503 when it may pass, else 500.
#[must_use]
pub fn problem(error: &sqlx::Error) -> Problem {
    if is_unavailable(error) {
        return Problem::unavailable("The database", error);
    }
    Problem::internal("use the database", error)
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        problem(&error)
    }
}

/// The answer to a caller whose request broke a constraint, where the constraint has one.
#[must_use]
pub fn problem_on_constraint(error: &sqlx::Error, known: &[(&str, StatusCode, &'static str)]) -> Problem {
    let broken = error.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
    let answer = known.iter().find(|(constraint, ..)| Some(*constraint) == broken);
    answer.map_or_else(|| problem(error), |(_, status, words)| Problem::new(*status, *words))
}
