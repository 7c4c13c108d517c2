//! The calls about users. Each mutation is one transaction of effect, key and answer.

use std::sync::Arc;

use axum::{
    Extension, Json, body,
    extract::State,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use events::EmailAddress;
use http_edge::{
    Body, CurrentPrincipal, Mutation, PageQuery, Problem, ProblemBody, Settled,
    database::{problem, problem_on_constraint},
    idempotency::{Answer, Fingerprint},
    read_body,
};
use pg::read;
use runtime::{fault, principal::Principal, trace::RequestContext};

use super::{
    App, TAKEN,
    bodies::{ChangesBody, ChatLinkBody, Message, NewUserBody, UserBody},
    decode,
    extract::{Addressed, OptionalKey, RequiredKey},
    message, not_found,
};
use crate::{core::user::UserId, store};

/// Register a user
#[utoipa::path(
    post, path = "/users", tag = "users", request_body = NewUserBody,
    params(("Idempotency-Key" = String, Header, description = "Required: sent twice, the request happens once")),
    responses(
        (status = 201, description = "User created successfully", body = Message),
        (status = 400, description = "Idempotency-Key header is required, Missing required fields, or malformed JSON",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "User already exists, Tax code is already in use, or the first request with \
            this key is still running", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Fields that cannot be accepted, or a key that was used for another request",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn register(
    State(app): State<Arc<App>>,
    CurrentPrincipal(principal): CurrentPrincipal,
    RequiredKey(key): RequiredKey,
    body: Body,
) -> Result<Settled, Problem> {
    let user = decode::new_user(body.fields)?;
    let request = request(&principal, &user.email, &Method::POST, "/users", &body.bytes);
    let registering = app.settle(Mutation { key: Some(key), request }, async |connection| {
        store::register(connection, &user).await.map_err(refused)?;
        Ok(message(StatusCode::CREATED, "User created successfully"))
    });
    registering.await
}

/// Everybody who is registered, in the order of registration
#[utoipa::path(
    get, path = "/users", tag = "users",
    params(
        ("limit" = Option<u16>, Query, description = "How many at most, from 1 to 1000; 100 when it is not said"),
        ("cursor" = Option<String>, Query, description = "Where the page begins: taken from the Link header"),
    ),
    responses(
        (status = 200, description = "A page", body = [UserBody],
            headers(("Link" = String, description = "The next page, rel=\"next\", while there is one"))),
        (status = 422, description = "A limit out of range or a cursor that is none of ours", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(app): State<Arc<App>>, query: PageQuery) -> Result<Response, Problem> {
    let after = query.cursor.as_deref().map(str::parse).transpose().map_err(|_| PageQuery::wrong_cursor())?;
    // One more than asked for tells whether there is another page.
    let (store, limit) = (app.store()?, i64::from(query.limit) + 1);
    let users = read(store.pool(), || store.list(after.map(UserId), limit)).await;
    let users = users.map_err(|error| problem(&error))?;
    let page = query.page(users.into_iter().map(UserBody::from).collect(), |user| user.id.to_string());
    Ok(page.into_response())
}

/// A registered user
#[utoipa::path(
    get, path = "/users/{email}", tag = "users",
    params(("email" = String, Path, description = "The e-mail address, in any case")),
    responses(
        (status = 200, description = "The user", body = UserBody),
        (status = 404, description = "User not found", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(State(app): State<Arc<App>>, Addressed(email): Addressed) -> Result<Json<UserBody>, Problem> {
    let store = app.store()?;
    let found = read(store.pool(), || store.find(&email)).await.map_err(|error| problem(&error))?;
    found.map(|user| Json(user.into())).ok_or_else(not_found)
}

/// Change a user's names, tax code or bank account
#[utoipa::path(
    patch, path = "/users/{email}", tag = "users", request_body = ChangesBody,
    params(
        ("email" = String, Path, description = "The e-mail address, in any case"),
        ("Idempotency-Key" = Option<String>, Header, description = "Honoured when it is sent"),
    ),
    responses(
        (status = 200, description = "The user as it is now; unchanged when the body names no field", body = UserBody),
        (status = 404, description = "User not found", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Tax code is already in use, or the first request with this key is running",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Fields that cannot be accepted (a null name, another e-mail address), or a \
            key that was used for another request", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    CurrentPrincipal(principal): CurrentPrincipal,
    OptionalKey(key): OptionalKey,
    Addressed(email): Addressed,
    body: Body,
) -> Result<Settled, Problem> {
    let changes = decode::changes(body.fields, &email)?;
    let path = format!("/users/{email}");
    let request = request(&principal, &email, &Method::PATCH, &path, &body.bytes);
    let changing = app.settle(Mutation { key, request }, async |connection| {
        let changed = store::change(connection, &email, &changes).await.map_err(refused)?;
        changed.map(shown).ok_or_else(not_found)
    });
    changing.await
}

/// Delete a user, and in the end all their interests
#[utoipa::path(
    delete, path = "/users/{email}", tag = "users",
    params(
        ("email" = String, Path, description = "The e-mail address, in any case"),
        ("Idempotency-Key" = String, Header, description = "Required: sent twice, the request happens once"),
    ),
    responses(
        (status = 200, description = "User deleted successfully; the interests follow by themselves", body = Message),
        (status = 400, description = "Idempotency-Key header is required", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "User not found", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The first request with this key is still running", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 422, description = "A key that was used for another request", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    CurrentPrincipal(principal): CurrentPrincipal,
    Extension(context): Extension<RequestContext>,
    RequiredKey(key): RequiredKey,
    Addressed(email): Addressed,
    body: body::Body,
) -> Result<Settled, Problem> {
    // A body means nothing here, except that with another one it is another request.
    let body = read_body(body).await?;
    let path = format!("/users/{email}");
    let request = request(&principal, &email, &Method::DELETE, &path, &body);
    let deleting = app.settle(Mutation { key: Some(key), request }, async |connection| {
        if store::delete(connection, &email, &context).await.map_err(refused)? {
            Ok(message(StatusCode::OK, "User deleted successfully"))
        } else {
            Err(not_found())
        }
    });
    let settled = deleting.await?;
    if settled.is_done() {
        fault::point("user-manager.deleted-not-relayed");
    }
    Ok(settled)
}

/// Note where a user reads Telegram
#[utoipa::path(
    post, path = "/users/telegram", tag = "users", request_body = ChatLinkBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Honoured when it is sent")),
    responses(
        (status = 200, description = "Telegram chat ID updated successfully", body = Message),
        (status = 400, description = "Missing email or telegram_chat_id, or malformed JSON", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 404, description = "User not found", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Telegram chat ID is already in use, or the first request with this key is \
            running", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Fields that cannot be accepted, or a key that was used for another request",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn link_chat(
    State(app): State<Arc<App>>,
    CurrentPrincipal(principal): CurrentPrincipal,
    Extension(context): Extension<RequestContext>,
    OptionalKey(key): OptionalKey,
    body: Body,
) -> Result<Settled, Problem> {
    let (email, chat) = decode::chat_link(body.fields)?;
    let request = request(&principal, &email, &Method::POST, "/users/telegram", &body.bytes);
    let linking = app.settle(Mutation { key, request }, async |connection| {
        if store::link_chat(connection, &email, chat).await.map_err(refused)? {
            Ok(message(StatusCode::OK, "Telegram chat ID updated successfully"))
        } else {
            Err(not_found())
        }
    });
    let settled = linking.await?;
    if settled.is_done() {
        app.notifier.chat_was_linked(email.as_str(), &context);
    }
    Ok(settled)
}

/// What makes a mutation of the person `email` the same as an earlier one.
fn request<'a>(
    principal: &'a Principal,
    email: &'a EmailAddress,
    method: &'a Method,
    path: &'a str,
    body: &'a [u8],
) -> Fingerprint<'a> {
    Fingerprint { principal, caller: email.as_str(), method, path, body }
}

/// Why the database refused a change.
fn refused(error: sqlx::Error) -> Problem {
    problem_on_constraint(&error, &TAKEN)
}

fn shown(user: crate::core::user::User) -> Answer {
    // A structure of strings and numbers cannot fail to encode.
    Answer { status: StatusCode::OK, body: serde_json::to_value(UserBody::from(user)).unwrap_or_default() }
}
