//! The gRPC edge.

use events::EmailAddress;
use proto::v1::{
    ChatLinkedResponse, UserRequest,
    notifier_service_server::{NotifierService, NotifierServiceServer},
};
use tonic::{Request, Response, Status};

use crate::store::Store;

/// The store, once there is one.
pub type DbHandle = pg::DbHandle<Store>;

/// Answers from the ledger.
pub struct NotifierGrpc {
    db: DbHandle,
}

/// What is served, before `db`.
#[must_use]
pub fn service(db: DbHandle) -> NotifierServiceServer<NotifierGrpc> {
    NotifierServiceServer::new(NotifierGrpc { db }).max_decoding_message_size(grpc_edge::MESSAGE_LIMIT)
}

#[tonic::async_trait]
impl NotifierService for NotifierGrpc {
    async fn chat_linked(&self, request: Request<UserRequest>) -> Result<Response<ChatLinkedResponse>, Status> {
        let away = || Status::unavailable("the database is unavailable");
        let Ok(email) = request.into_inner().email.parse::<EmailAddress>() else {
            return Err(Status::invalid_argument("email must be an e-mail address"));
        };
        let store = self.db.get().ok_or_else(away)?;
        match store.chat_was_named(email.as_str()).await {
            Ok(woken) => Ok(Response::new(ChatLinkedResponse { woken })),
            Err(error) if pg::is_unavailable(&error) => Err(away()),
            Err(error) => {
                tracing::error!("wake what waits for a chat: {error}");
                Err(Status::internal("internal error"))
            }
        }
    }
}
