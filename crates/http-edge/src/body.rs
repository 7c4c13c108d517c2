use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use axum::{
    body::{Bytes, HttpBody as _},
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use super::{FieldError, Problem};

/// The largest body that is read, in bytes.
const SIZE_LIMIT: usize = 64 * 1024;
/// How much of a body that is too large is read and forgotten, in bytes.
const DISCARD_LIMIT: usize = 16 * 1024 * 1024;
/// How long a caller may take to send a body.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A JSON object that was sent to us: its bytes, and its fields to be read one by one.
///
/// Anything but a JSON object in UTF-8 is refused with the status the contract names.
pub struct Body {
    /// The body as it was sent.
    pub bytes: Bytes,
    /// The body's fields.
    pub fields: JsonFields,
}

/// The fields of a request, read one by one; what is wrong with them is told all at once.
pub struct JsonFields {
    values: Map<String, Value>,
    errors: Vec<FieldError>,
}

/// A field that may be left out, or cleared with null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch<T> {
    /// The field is not in the body (or is wrong, which [`JsonFields::finish`] tells).
    Absent,
    /// The field is null.
    Null,
    /// The field has a value.
    Value(T),
}

impl<T> Patch<T> {
    /// The value, where there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json_in_utf8(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Type must be application/json in UTF-8",
            ));
        }
        let bytes = read_body(request.into_body()).await?;
        let fields = JsonFields::parse(&bytes)?;
        Ok(Self { bytes, fields })
    }
}

/// A body, read to its end.
///
/// # Errors
/// 413 when it is larger than 64 KiB, 408 when it does not arrive in time, 400 when it breaks off.
pub async fn read_body(body: axum::body::Body) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut read = Vec::new();
    let mut size = 0;
    let ended = tokio::time::timeout(TIME_LIMIT, read_on(body, &mut read, &mut size)).await;
    if size > SIZE_LIMIT {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 64 KiB"));
    }
    match ended {
        Ok(Ok(())) => Ok(read.into()),
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "The body could not be read")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time")),
    }
}

/// Reads on after the body has turned out too large, and forgets what it reads: a caller whose
/// connection is closed while it sends does not get to see why.
async fn read_on(mut body: axum::body::Body, read: &mut Vec<u8>, size: &mut usize) -> Result<(), axum::Error> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        *size += data.len();
        if *size <= SIZE_LIMIT {
            read.extend_from_slice(&data);
        } else if *size > DISCARD_LIMIT {
            break;
        }
    }
    Ok(())
}

fn is_json_in_utf8(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    let is_json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    is_json
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, charset)) if name.trim() == "charset" => {
                matches!(charset.trim().trim_matches(['"', '\'']), "utf-8" | "utf8")
            }
            _ => true,
        })
}

impl JsonFields {
    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let malformed = |error| Problem::new(StatusCode::BAD_REQUEST, format!("Malformed JSON: {error}"));
        match serde_json::from_slice(bytes).map_err(malformed)? {
            Value::Object(values) => Ok(Self { values, errors: Vec::new() }),
            _ => {
                let message = "must be a JSON object".to_owned();
                Err(Problem::invalid(vec![FieldError { field: "body".to_owned(), message }]))
            }
        }
    }

    /// Whether the field is absent, null or blank.
    #[must_use]
    pub fn is_missing(&self, name: &str) -> bool {
        match self.values.get(name) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.trim().is_empty(),
            Some(_) => false,
        }
    }

    /// Whether the body has the field, be it null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A text without control characters, trimmed, of at most `length` characters.
    pub fn text(&mut self, name: &str, length: usize) -> Patch<String> {
        let text = match self.values.get(name) {
            None => return Patch::Absent,
            Some(Value::Null) => return Patch::Null,
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(_) => return self.wrong(name, "must be a string"),
        };
        if text.is_empty() {
            return self.wrong(name, "must not be empty");
        }
        if text.chars().count() > length {
            return self.wrong(name, format!("must have at most {length} characters"));
        }
        if text.chars().any(char::is_control) {
            return self.wrong(name, "must not contain control characters");
        }
        Patch::Value(text)
    }

    /// A text that is parsed into a type of the domain; the type's error completes "the field …".
    pub fn parsed<T>(&mut self, name: &str) -> Patch<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        match self.text(name, 1000) {
            Patch::Value(text) => match text.parse() {
                Ok(value) => Patch::Value(value),
                Err(error) => self.wrong(name, error.to_string()),
            },
            Patch::Absent => Patch::Absent,
            Patch::Null => Patch::Null,
        }
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Patch<i64> {
        match self.values.get(name) {
            None => Patch::Absent,
            Some(Value::Null) => Patch::Null,
            Some(value) => match value.as_i64().filter(|number| range.contains(number)) {
                Some(number) => Patch::Value(number),
                None => self.wrong(name, format!("must be a whole number from {} to {}", range.start(), range.end())),
            },
        }
    }

    /// The field as it was sent.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Notes what is wrong with a field.
    pub fn wrong<T>(&mut self, name: &str, message: impl Into<String>) -> Patch<T> {
        self.errors.push(FieldError { field: name.to_owned(), message: message.into() });
        Patch::Absent
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 422 with every field that is wrong.
    pub fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> JsonFields {
        JsonFields::parse(text.as_bytes()).expect("an object")
    }

    #[test]
    fn absent_null_and_a_value_are_told_apart() {
        let mut body = fields(r#"{"high": null, "low": 3}"#);
        assert_eq!(body.integer("high", 0..=100), Patch::Null);
        assert_eq!(body.integer("low", 0..=100), Patch::Value(3));
        assert_eq!(body.integer("other", 0..=100), Patch::Absent);
        body.finish().expect("nothing is wrong");
    }

    #[test]
    fn every_wrong_field_is_told() {
        let mut body = fields(r#"{"a": 1, "b": "", "c": "x\u0000", "d": 1.5, "e": 101, "f": "seven"}"#);
        body.text("a", 10);
        body.text("b", 10);
        body.text("c", 10);
        body.integer("d", 0..=100);
        body.integer("e", 0..=100);
        body.integer("f", 0..=100);
        let problem = body.finish().expect_err("all are wrong");
        assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem.body().matches("\"field\"").count(), 6, "{}", problem.body());
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for (text, status) in [("", 400), ("{", 400), ("{\"a\":\"\u{e9}", 400), ("[]", 422), ("7", 422), ("\"x\"", 422)]
        {
            let problem = JsonFields::parse(text.as_bytes()).err().expect("refused");
            assert_eq!(problem.status().as_u16(), status, "{text}");
            let names_it = problem.body().contains(r#""errors":[{"field":"body","message":"must be a JSON object"}]"#);
            assert_eq!(names_it, status == 422, "{}", problem.body());
        }
        assert!(JsonFields::parse(b"{\"a\":\"\xe9\"}").is_err());
    }

    #[test]
    fn only_json_in_utf8_is_read() {
        let accepts = |value: &str| {
            is_json_in_utf8(&HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().expect("a header value"))]))
        };
        assert!(accepts("application/json"));
        assert!(accepts("application/json; charset=UTF-8"));
        assert!(accepts("application/merge-patch+json"));
        assert!(accepts("application/json;charset=\"utf-8\""));
        assert!(!accepts("application/json; charset=iso-8859-1"));
        assert!(!accepts("application/json; charset = utf-16"));
        assert!(!accepts("application/json; charset="));
        assert!(!accepts("text/plain"));
        assert!(!is_json_in_utf8(&HeaderMap::new()));
    }
}
