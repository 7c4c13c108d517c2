//! The gRPC edge: the health service, and a service of our own whose methods come with the features
//! that need them.

use proto::v1::notifier_service_server::{NotifierService, NotifierServiceServer};

/// Answers nothing yet.
pub struct Edge;

impl NotifierService for Edge {}

/// What is served.
#[must_use]
pub fn service() -> NotifierServiceServer<Edge> {
    NotifierServiceServer::new(Edge).max_decoding_message_size(shell::grpc::MESSAGE_LIMIT)
}
