//! The gRPC edge: answers other services' questions about people.

use contracts::EmailAddress;
use proto::v1::{ContactResponse, UserRequest, UserResponse, user_service_server::UserService};
use shell::postgres;
use tonic::{Request, Response, Status};

use crate::{
    Stored,
    core::user::UserId,
    store::{Contact, Store},
};

/// Answers from the store.
pub struct Edge {
    stored: Stored,
}

impl Edge {
    /// An edge before `stored`.
    #[must_use]
    pub const fn new(stored: Stored) -> Self {
        Self { stored }
    }

    /// Whoever is meant. An address that cannot be one belongs to nobody; an id that cannot be one
    /// is the caller's mistake.
    async fn find(&self, request: UserRequest) -> Result<Option<Contact>, Status> {
        let meant = request.user_id.as_deref().map(str::parse).transpose();
        let meant = meant.map_err(|_| Status::invalid_argument("user_id must be a UUID"))?.map(UserId);
        let Ok(email) = request.email.parse::<EmailAddress>() else { return Ok(None) };
        self.store()?.contact(&email, meant).await.map_err(|error| status(&error))
    }

    fn store(&self) -> Result<&Store, Status> {
        self.stored.get().ok_or_else(away)
    }
}

#[tonic::async_trait]
impl UserService for Edge {
    async fn check_user_exists(&self, request: Request<UserRequest>) -> Result<Response<UserResponse>, Status> {
        let found = self.find(request.into_inner()).await?;
        let user_id = found.map(|contact| contact.user_id.0.to_string()).unwrap_or_default();
        Ok(Response::new(UserResponse { exists: found.is_some(), user_id }))
    }

    async fn get_contact(&self, request: Request<UserRequest>) -> Result<Response<ContactResponse>, Status> {
        let found = self.find(request.into_inner()).await?;
        let telegram_chat_id = found.and_then(|contact| contact.telegram_chat_id);
        Ok(Response::new(ContactResponse { exists: found.is_some(), telegram_chat_id }))
    }
}

fn status(error: &sqlx::Error) -> Status {
    if postgres::is_unavailable(error) {
        tracing::warn!("the database is unavailable: {error}");
        return away();
    }
    tracing::error!("use the database: {error}");
    Status::internal("internal error")
}

fn away() -> Status {
    Status::unavailable("the database is unavailable")
}
