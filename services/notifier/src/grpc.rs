//! The gRPC edge: the health service, and a service of our own whose methods come with the features
//! that need them.

use proto::v1::notifier_service_server::{NotifierService, NotifierServiceServer};
use tonic::service::Routes;

struct Edge;

impl NotifierService for Edge {}

/// What is served.
#[must_use]
pub fn routes() -> Routes {
    Routes::new(NotifierServiceServer::new(Edge))
}
