//! The gRPC edge: answers other services' questions about people.

use chrono::DateTime;
use events::EmailAddress;
use proto::v1::{
    ContactResponse, UndeliveredReason, UndeliveredReport, UndeliveredReportResponse, UserRequest, UserResponse,
    user_service_server::UserService,
};
use tonic::{Request, Response, Status};

use crate::{
    DbHandle,
    core::{
        undelivered::{Reason, Report},
        user::UserId,
    },
    store::{Contact, Store},
};

/// Answers from the store.
pub struct UserGrpc {
    db: DbHandle,
}

impl UserGrpc {
    /// An edge before `db`.
    #[must_use]
    pub const fn new(db: DbHandle) -> Self {
        Self { db }
    }

    /// The user who is meant. An address that cannot be one belongs to no user; an id that cannot be one is the
    /// caller's mistake.
    async fn find(&self, request: UserRequest) -> Result<Option<Contact>, Status> {
        let meant = request.user_id.as_deref().map(str::parse).transpose();
        let meant = meant.map_err(|_| Status::invalid_argument("user_id must be a UUID"))?.map(UserId);
        let Ok(email) = request.email.parse::<EmailAddress>() else { return Ok(None) };
        let store = self.store()?;
        pg::read(store.pool(), || store.contact(&email, meant)).await.map_err(|error| status(&error))
    }

    fn store(&self) -> Result<&Store, Status> {
        self.db.get().ok_or_else(away)
    }
}

#[tonic::async_trait]
impl UserService for UserGrpc {
    async fn check_user_exists(&self, request: Request<UserRequest>) -> Result<Response<UserResponse>, Status> {
        let found = self.find(request.into_inner()).await?;
        let user_id = found.map(|contact| contact.user_id.0.to_string()).unwrap_or_default();
        Ok(Response::new(UserResponse { exists: found.is_some(), user_id }))
    }

    async fn get_contact(&self, request: Request<UserRequest>) -> Result<Response<ContactResponse>, Status> {
        let found = self.find(request.into_inner()).await?;
        let telegram_chat_id = found.and_then(|contact| contact.telegram_chat_id);
        let chat_link = found.map(|contact| contact.chat_link);
        Ok(Response::new(ContactResponse { exists: found.is_some(), telegram_chat_id, chat_link }))
    }

    async fn report_undelivered(
        &self,
        request: Request<UndeliveredReport>,
    ) -> Result<Response<UndeliveredReportResponse>, Status> {
        let message = request.into_inner();
        let user_id = message.user_id.parse().map_err(|_| Status::invalid_argument("user_id must be a UUID"))?;
        let report = report(&message)?;
        self.store()?.note_undelivered(UserId(user_id), &report).await.map_err(|error| status(&error))?;
        Ok(Response::new(UndeliveredReportResponse {}))
    }
}

fn report(message: &UndeliveredReport) -> Result<Report, Status> {
    if message.count < 0 {
        return Err(Status::invalid_argument("count must not be negative"));
    }
    let last_at = DateTime::from_timestamp_millis(message.last_at_unix_ms);
    let last_at = last_at.ok_or_else(|| Status::invalid_argument("last_at_unix_ms must be a time"))?;
    let last = (message.count > 0).then(|| (last_at, reason(message.reason())));
    Ok(Report { version: message.version, count: message.count, last })
}

/// What this version does not know reads as unspecified.
const fn reason(reason: UndeliveredReason) -> Reason {
    match reason {
        UndeliveredReason::Unspecified => Reason::Other,
        UndeliveredReason::NoChat => Reason::NoChat,
        UndeliveredReason::ChatNotFound => Reason::ChatNotFound,
        UndeliveredReason::Blocked => Reason::Blocked,
        UndeliveredReason::Deactivated => Reason::Deactivated,
        UndeliveredReason::NotInChat => Reason::NotInChat,
        UndeliveredReason::NoRights => Reason::NoRights,
        UndeliveredReason::Forbidden => Reason::Forbidden,
        UndeliveredReason::Refused => Reason::Refused,
    }
}

fn status(error: &sqlx::Error) -> Status {
    if pg::is_unavailable(error) {
        tracing::warn!("the database is unavailable: {error}");
        return away();
    }
    tracing::error!("use the database: {error}");
    Status::internal("internal error")
}

fn away() -> Status {
    Status::unavailable("the database is unavailable")
}
