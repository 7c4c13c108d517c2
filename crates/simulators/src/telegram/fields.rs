//! The fields of a call: in the query, a form or JSON, as Telegram takes them.

use std::collections::HashMap;

use http::{HeaderMap, header};
use serde_json::Value;

/// The fields of a call by name. Numbers and texts are both kept as text.
pub(super) struct Fields(HashMap<String, String>);

impl Fields {
    /// Reads the query, and the body by its content type.
    ///
    /// # Errors
    /// The description of a 400.
    pub(super) fn read(query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Result<Self, String> {
        let mut fields: HashMap<_, _> =
            url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/json" => {
                let broken = || "Bad Request: can't parse JSON object".to_owned();
                let Ok(Value::Object(object)) = serde_json::from_slice(body) else { return Err(broken()) };
                fields.extend(object.into_iter().filter_map(|(name, value)| match value {
                    Value::Null => None,
                    Value::String(text) => Some((name, text)),
                    other => Some((name, other.to_string())),
                }));
            }
            "application/x-www-form-urlencoded" => fields.extend(url::form_urlencoded::parse(body).into_owned()),
            _ => {}
        }
        Ok(Self(fields))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}
