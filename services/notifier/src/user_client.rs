//! Where people can be reached: user-manager knows.

use std::sync::{Arc, Mutex};

use anyhow::anyhow;
use grpc_edge::IdentifiedChannel;
use proto::v1::{UndeliveredReason, UndeliveredReport, UserRequest, user_service_client::UserServiceClient};
use runtime::{
    ServiceRuntime,
    readiness::{Criticality, HealthPart},
    trace::RequestContext,
};
use tonic::{Status, transport::Endpoint};
use uuid::Uuid;

use crate::{
    core::{
        rate_limiter::ChatId,
        reach::{ChatLink, Reason},
    },
    store::Undelivered,
};

/// What user-manager says about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// The address belongs to a registration that was made later: the one that is meant was deleted.
    Replaced,
    /// The address is not registered.
    Unknown,
    /// Registered, and has named no chat yet.
    NoChat,
    /// Reads this chat.
    Chat(ChatLink),
}

/// Asks user-manager. Nothing is remembered: an answer costs about a millisecond, and a remembered
/// one could send to a chat that its owner has just taken away. Clones share the connection.
///
/// Whatever is no answer of user-manager's own is taken as "away", whichever status it comes with: a
/// proxy may answer `NOT_FOUND` or `PERMISSION_DENIED` for everybody at once, and an older user-manager
/// `UNIMPLEMENTED`. Only an answer can say that a person is not there.
#[derive(Clone)]
pub struct UserClient {
    client: UserServiceClient<IdentifiedChannel>,
    part: Arc<Mutex<HealthPart>>,
}

impl UserClient {
    /// Connects when it is first asked.
    #[must_use]
    pub fn new(runtime: &ServiceRuntime, endpoint: Endpoint) -> Self {
        let part = runtime.readiness.part("user-manager", Criticality::Optional, "not asked yet");
        part.up_with("not asked yet");
        Self {
            client: UserServiceClient::new(grpc_edge::channel(runtime.service, endpoint)),
            part: Arc::new(Mutex::new(part)),
        }
    }

    /// Where the person with this address, and this id where one is known, reads messages.
    ///
    /// # Errors
    /// When user-manager cannot say.
    pub async fn contact(
        &self,
        email: &str,
        user_id: Option<Uuid>,
        context: &RequestContext,
    ) -> anyhow::Result<Contact> {
        let request = UserRequest { email: email.to_owned(), user_id: user_id.map(|id| id.to_string()) };
        let asked = grpc_edge::ask(&self.client, request, context, |mut client, request| async move {
            client.get_contact(request).await
        });
        let answer = self.heard(asked.await)?;
        match answer.telegram_chat_id {
            _ if !answer.exists && user_id.is_some() => self.successor(email, context).await,
            _ if !answer.exists => Ok(Contact::Unknown),
            None | Some(0) => Ok(Contact::NoChat),
            Some(id) => Ok(Contact::Chat(ChatLink { chat: ChatId(id), version: answer.chat_link.unwrap_or_default() })),
        }
    }

    /// A registration is not there. Whether its address belongs to another one now, which proves that
    /// user-manager knows its people and that this one was deleted.
    async fn successor(&self, email: &str, context: &RequestContext) -> anyhow::Result<Contact> {
        let request = UserRequest { email: email.to_owned(), user_id: None };
        let asked = grpc_edge::ask(&self.client, request, context, |mut client, request| async move {
            client.check_user_exists(request).await
        });
        let answer = self.heard(asked.await)?;
        Ok(if answer.exists { Contact::Replaced } else { Contact::Unknown })
    }

    /// Tells user-manager what a person was not told.
    ///
    /// # Errors
    /// When user-manager did not take it.
    pub async fn report_undelivered(&self, report: &Undelivered) -> anyhow::Result<()> {
        let reason = report.last.map_or(UndeliveredReason::Unspecified, |(_, reason)| in_proto(reason));
        let message = UndeliveredReport {
            user_id: report.user_id.to_string(),
            version: report.version,
            count: report.count,
            last_at_unix_ms: report.last.map_or(0, |(at, _)| at.timestamp_millis()),
            reason: reason.into(),
        };
        let told = self.client.clone().report_undelivered(message).await;
        told.map(drop).map_err(|status| anyhow!("user-manager {}", reason_of(&status)))
    }

    fn heard<T>(&self, answer: Result<tonic::Response<T>, Status>) -> anyhow::Result<T> {
        match answer {
            Ok(answer) => {
                self.note(|part| part.up());
                Ok(answer.into_inner())
            }
            Err(status) => {
                let reason = reason_of(&status);
                self.note(|part| part.down(reason.clone()));
                Err(anyhow!("user-manager {reason}"))
            }
        }
    }

    fn note(&self, say: impl FnOnce(&HealthPart)) {
        say(&self.part.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

const fn in_proto(reason: Reason) -> UndeliveredReason {
    match reason {
        Reason::NoChat => UndeliveredReason::NoChat,
        Reason::ChatNotFound => UndeliveredReason::ChatNotFound,
        Reason::Blocked => UndeliveredReason::Blocked,
        Reason::Deactivated => UndeliveredReason::Deactivated,
        Reason::NotInChat => UndeliveredReason::NotInChat,
        Reason::NoRights => UndeliveredReason::NoRights,
        Reason::Forbidden => UndeliveredReason::Forbidden,
        Reason::Refused => UndeliveredReason::Refused,
    }
}

/// The kind of failure. Its message could repeat the address that was asked about.
fn reason_of(status: &Status) -> String {
    format!("does not answer: {}", status.code().description())
}
