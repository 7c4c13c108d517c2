use std::{borrow::Cow, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// An error answer: `application/problem+json` (RFC 9457) with the contract's short text in `error`.
///
/// It never carries internals: what went wrong inside is logged where the problem is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    error: Cow<'static, str>,
    fields: Vec<FieldError>,
    retry_after: Option<Duration>,
    unavailable: Option<Unavailable>,
}

/// What is away, and why: for the log of the edge that answers, which says it once and not for every caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// What a request depended on, from a closed set.
    pub(crate) what: String,
    pub(crate) reason: String,
}

/// One field that cannot be accepted, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// The field's name.
    pub field: String,
    /// What it must be.
    pub message: String,
}

/// The body of an error answer, as it stands in the OpenAPI document.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened, for a person to read.
    detail: Cow<'a, str>,
    /// The short text of the contract.
    error: &'a str,
    /// The fields that cannot be accepted.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// A problem with the short text `error`.
    #[must_use]
    pub fn new(status: StatusCode, error: impl Into<Cow<'static, str>>) -> Self {
        Self { status, error: error.into(), fields: Vec::new(), retry_after: None, unavailable: None }
    }

    /// 422 with the list of fields that cannot be accepted.
    #[must_use]
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        Self { fields, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Validation failed") }
    }

    /// 503: something we depend on is away. `source` is not answered; [`super::with_middleware`] logs it, for the first
    /// caller and then once a minute.
    #[must_use]
    pub fn unavailable(what: &str, source: &dyn std::fmt::Display) -> Self {
        let unavailable = Unavailable { what: what.to_owned(), reason: source.to_string() };
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{what} is unavailable, try again later"));
        Self { unavailable: Some(unavailable), ..problem.retry_after(Duration::from_secs(5)) }
    }

    /// 500: our fault. `source` is logged, not answered.
    #[must_use]
    pub fn internal(doing: &str, source: &dyn std::fmt::Display) -> Self {
        tracing::error!("{doing}: {source}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
    }

    /// Tells the caller when to try again.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The body, as JSON text.
    #[must_use]
    pub fn body(&self) -> String {
        let body = ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail(),
            error: &self.error,
            errors: &self.fields,
        };
        // Strings and numbers alone cannot fail to encode.
        serde_json::to_string(&body).unwrap_or_default()
    }

    fn detail(&self) -> Cow<'_, str> {
        if self.fields.is_empty() {
            return Cow::Borrowed(&self.error);
        }
        let fields: Vec<_> = self.fields.iter().map(|field| format!("{} {}", field.field, field.message)).collect();
        Cow::Owned(fields.join("; "))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        if let Some(unavailable) = self.unavailable {
            response.extensions_mut().insert(unavailable);
        }
        response
    }
}
