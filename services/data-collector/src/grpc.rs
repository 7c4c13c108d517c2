//! The gRPC edge: `flightbell.v1.DataCollectorService`.

use grpc_edge::{principal, request_context};
use proto::v1::{
    DeleteInterestsResponse, UserRequest,
    data_collector_service_server::{DataCollectorService, DataCollectorServiceServer},
};
use runtime::clock::Clock;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{DbHandle, store::Store};

/// Answers from the store.
pub struct CollectorGrpc {
    db: DbHandle,
    clock: Clock,
}

/// The service's gRPC calls.
#[must_use]
pub fn service(db: DbHandle, clock: Clock) -> DataCollectorServiceServer<CollectorGrpc> {
    DataCollectorServiceServer::new(CollectorGrpc { db, clock }).max_decoding_message_size(grpc_edge::MESSAGE_LIMIT)
}

impl CollectorGrpc {
    fn store(&self) -> Result<&Store, Status> {
        self.db.get().ok_or_else(away)
    }
}

#[tonic::async_trait]
impl DataCollectorService for CollectorGrpc {
    async fn delete_user_interests(
        &self,
        request: Request<UserRequest>,
    ) -> Result<Response<DeleteInterestsResponse>, Status> {
        let (principal, context) = (principal(&request), request_context(request.metadata()));
        let UserRequest { email, user_id } = request.into_inner();
        let deleted = match user_id.filter(|id| !id.is_empty()) {
            // The id alone names a registration: its address may be another user's by now.
            Some(id) => {
                let id: Uuid = id.parse().map_err(|_| Status::invalid_argument("user_id is not a UUID"))?;
                let deleted = self.store()?.delete_user(&principal, id, self.clock.now(), &context).await;
                deleted.inspect(|deleted| tracing::info!(user.id = %id, "deleted the {deleted} interests of a user"))
            }
            None => {
                let email = email.parse().map_err(|_| Status::invalid_argument("email is not an e-mail address"))?;
                let deleted = self.store()?.remove_under(&principal, &email, &context).await;
                deleted.inspect(|deleted| tracing::info!("deleted the {deleted} interests under an address"))
            }
        };
        let deleted = deleted.map_err(|error| status(&error))?;
        let deleted_count = i64::try_from(deleted).unwrap_or(i64::MAX);
        Ok(Response::new(DeleteInterestsResponse { success: true, deleted_count }))
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
    Status::unavailable("the database is unavailable, try again later")
}
