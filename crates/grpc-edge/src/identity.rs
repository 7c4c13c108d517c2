//! Which service calls, in the metadata of each call.
//!
//! The name is what the caller says of itself: nothing is permitted because of it until callers prove it with a
//! certificate.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::HeaderMap;
use runtime::principal::{Principal, ServiceName};
use tonic::{
    Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// The metadata that names the calling service.
const SERVICE: &str = "flightbell-service";

/// A channel whose calls say which service makes them.
pub type IdentifiedChannel = InterceptedService<Channel, ServiceIdentity>;

/// Names the calling service in each of its calls.
#[derive(Clone, Debug)]
pub struct ServiceIdentity(Option<MetadataValue<Ascii>>);

impl ServiceIdentity {
    /// The identity of `service`; none where that is not a service's name.
    #[must_use]
    pub fn of(service: &str) -> Self {
        let is_name = service.parse::<ServiceName>().is_ok();
        Self(service.parse().ok().filter(|_| is_name))
    }
}

impl Interceptor for ServiceIdentity {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(name) = &self.0 {
            request.metadata_mut().insert(SERVICE, name.clone());
        }
        Ok(request)
    }
}

/// Who makes a call that was received.
#[must_use]
pub fn principal<T>(request: &tonic::Request<T>) -> Principal {
    request.extensions().get().cloned().unwrap_or_default()
}

/// The layer: tells the handlers, and the log, who calls the `callee`.
pub(super) async fn identify(State(callee): State<&'static str>, mut request: Request, next: Next) -> Response {
    let principal = said(request.headers());
    tracing::debug!(principal = principal.kind(), "{callee} is called");
    request.extensions_mut().insert(principal);
    next.run(request).await
}

/// A name that is given twice, or is none, names no service.
fn said(headers: &HeaderMap) -> Principal {
    let mut names = headers.get_all(SERVICE).iter();
    let name = names.next().filter(|_| names.next().is_none()).and_then(|name| name.to_str().ok()?.parse().ok());
    name.map_or(Principal::Anonymous, Principal::Service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_the_service_that_it_says_or_nobody() {
        let said = |names: &[&str]| {
            said(&names.iter().map(|name| (SERVICE.parse().expect("a name"), name.parse().expect("a value"))).collect())
        };
        assert_eq!(said(&["notifier"]), Principal::Service("notifier".parse().expect("a name")));
        for names in [&[][..], &[""], &["Notifier"], &["a'; DROP"], &["notifier", "notifier"], &["notifier,x"]] {
            assert_eq!(said(names), Principal::Anonymous, "{names:?}");
        }
    }

    #[test]
    fn what_is_no_name_is_not_said() {
        assert!(ServiceIdentity::of("user-manager").0.is_some());
        assert!(ServiceIdentity::of("a b").0.is_none());
    }
}
