//! Asks user-manager which user has an address.

use events::EmailAddress;
use grpc_edge::IdentifiedChannel;
use proto::v1::{UserRequest, user_service_client::UserServiceClient};
use runtime::{ServiceRuntime, trace::RequestContext};
use tonic::transport::Endpoint;
use uuid::Uuid;

/// The one channel to user-manager.
#[derive(Clone)]
pub struct Users {
    client: UserServiceClient<IdentifiedChannel>,
}

/// user-manager could not say.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// No answer, or an error.
    #[error("ask user-manager: {} {}", .0.code(), .0.message())]
    Call(#[from] tonic::Status),
    /// An answer without the id it must have.
    #[error("user-manager answered without a user id")]
    NoId,
}

impl Users {
    /// Connects when first asked. `/readyz` names user-manager from now on, without deciding by it: what
    /// was collected is shown, and brought to those who watch, also while it is down.
    #[must_use]
    pub fn new(runtime: &ServiceRuntime, endpoint: Endpoint) -> Self {
        let channel = grpc_edge::channel(runtime.service, endpoint);
        grpc_edge::name_in_readiness(runtime, "user-manager", channel.clone());
        Self { client: UserServiceClient::new(channel) }
    }

    /// The id of the user who is registered under `email` now; none when no user is.
    ///
    /// # Errors
    /// When user-manager does not answer within the deadline.
    pub async fn find(&self, email: &EmailAddress, context: &RequestContext) -> Result<Option<Uuid>, UsersError> {
        let request = UserRequest { email: email.as_str().to_owned(), user_id: None };
        let asked = grpc_edge::ask(&self.client, request, context, |mut client, request| async move {
            client.check_user_exists(request).await
        });
        let answer = asked.await?.into_inner();
        if !answer.exists {
            return Ok(None);
        }
        answer.user_id.parse().map(Some).map_err(|_| UsersError::NoId)
    }
}
