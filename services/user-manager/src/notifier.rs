//! Tells the notifier that a person named a chat, so that what waits for one is sent at once.
//!
//! The notifier asks by itself once a minute, so nothing depends on the call: it is made after the
//! answer, a few times, and then left.

use std::time::Duration;

use grpc_edge::IdentifiedChannel;
use proto::v1::{UserRequest, notifier_service_client::NotifierServiceClient};
use runtime::{ServiceRuntime, backoff::Backoff, tasks::Tasks, trace::RequestContext};
use tonic::transport::Endpoint;

/// How often the call is tried.
const TRIES: u32 = 3;
/// How long one try may take.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// How long to wait between tries.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));

/// The notifier, where its address is known.
#[derive(Clone)]
pub struct Notifier {
    client: Option<NotifierServiceClient<IdentifiedChannel>>,
    tasks: Tasks,
}

impl Notifier {
    /// Connects when it is first called.
    #[must_use]
    pub fn new(runtime: &ServiceRuntime, endpoint: Option<Endpoint>) -> Self {
        let client = endpoint.map(|endpoint| NotifierServiceClient::new(grpc_edge::channel(runtime.service, endpoint)));
        Self { client, tasks: runtime.tasks.clone() }
    }

    /// Says, without being waited for, that this person named a chat.
    pub fn chat_was_linked(&self, email: &str, context: &RequestContext) {
        let Some(client) = self.client.clone() else { return };
        let (message, context) = (UserRequest { email: email.to_owned(), user_id: None }, context.clone());
        let stopping = self.tasks.stopping().clone();
        self.tasks.spawn_short("word of a chat", async move {
            for failures in 0..TRIES {
                let request = grpc_edge::request(message.clone(), &context);
                let mut client = client.clone();
                match tokio::time::timeout(CALL_LIMIT, client.chat_linked(request)).await {
                    Ok(Ok(_)) => return,
                    // The message of a status could repeat the address.
                    Ok(Err(status)) => tracing::debug!("tell the notifier of a chat: {}", status.code().description()),
                    Err(_) => tracing::debug!("tell the notifier of a chat: it does not answer"),
                }
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = tokio::time::sleep(BACKOFF.wait(failures, rand::random())) => {}
                }
            }
        });
    }
}
