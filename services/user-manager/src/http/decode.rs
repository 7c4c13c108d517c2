//! From JSON fields to the domain, with every complaint at once.

use axum::http::StatusCode;
use events::EmailAddress;
use http_edge::{JsonFields, Patch, Problem};
use serde_json::Value;

use crate::core::user::{Change, Changes, ChatId, LONGEST_NAME, NewUser};

/// A user who registers.
///
/// # Errors
/// 400 when a required field is missing, else 422 with every field that is wrong.
pub fn new_user(mut fields: JsonFields) -> Result<NewUser, Problem> {
    const MISSING: &str = "Missing required fields";
    refuse_missing(&fields, &["email", "first_name", "last_name"], MISSING)?;
    let email = fields.parsed("email").value();
    let first_name = fields.text("first_name", LONGEST_NAME).value();
    let last_name = fields.text("last_name", LONGEST_NAME).value();
    let tax_code = fields.parsed("tax_code").value();
    let iban = fields.parsed("iban").value();
    fields.finish()?;
    match (email, first_name, last_name) {
        (Some(email), Some(first_name), Some(last_name)) => {
            Ok(NewUser { email, first_name, last_name, tax_code, iban })
        }
        _ => Err(bad_request(MISSING)),
    }
}

/// What is to be different about the person whose address is `email`.
///
/// # Errors
/// 422 with every field that is wrong.
pub fn changes(mut fields: JsonFields, email: &EmailAddress) -> Result<Changes, Problem> {
    match fields.parsed::<EmailAddress>("email") {
        Patch::Value(given) if given == *email => {}
        Patch::Absent => {}
        Patch::Null | Patch::Value(_) => {
            fields.wrong::<()>("email", "cannot be changed");
        }
    }
    let first_name = name(&mut fields, "first_name");
    let last_name = name(&mut fields, "last_name");
    let tax_code = change(fields.parsed("tax_code"));
    let iban = change(fields.parsed("iban"));
    fields.finish()?;
    Ok(Changes { first_name, last_name, tax_code, iban })
}

fn name(fields: &mut JsonFields, field: &str) -> Option<String> {
    match fields.text(field, LONGEST_NAME) {
        Patch::Null => fields.wrong(field, "must not be null").value(),
        given => given.value(),
    }
}

fn change<T>(given: Patch<T>) -> Change<T> {
    match given {
        Patch::Absent => Change::Keep,
        Patch::Null => Change::Clear,
        Patch::Value(value) => Change::Set(value),
    }
}

/// Whose chat it is.
///
/// # Errors
/// 400 when a field is missing, else 422 with every field that is wrong.
pub fn chat_link(mut fields: JsonFields) -> Result<(EmailAddress, ChatId), Problem> {
    const MISSING: &str = "Missing email or telegram_chat_id";
    refuse_missing(&fields, &["email", "telegram_chat_id"], MISSING)?;
    let email = fields.parsed("email").value();
    let chat = chat_id(&mut fields, "telegram_chat_id").value();
    fields.finish()?;
    email.zip(chat).ok_or_else(|| bad_request(MISSING))
}

/// A number, or a string of one.
fn chat_id(fields: &mut JsonFields, field: &str) -> Patch<ChatId> {
    let chat = match fields.raw(field) {
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_i64().and_then(|number| ChatId::new(number).ok()),
        None => None,
    };
    match chat {
        Some(chat) => Patch::Value(chat),
        None => fields.wrong(field, crate::core::user::WrongChatId.to_string()),
    }
}

fn refuse_missing(fields: &JsonFields, names: &[&str], error: &'static str) -> Result<(), Problem> {
    if names.iter().any(|name| fields.is_missing(name)) { Err(bad_request(error)) } else { Ok(()) }
}

fn bad_request(error: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, error)
}
