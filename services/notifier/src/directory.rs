//! Where people can be reached: user-manager knows.

use std::sync::Mutex;

use anyhow::anyhow;
use proto::v1::{UserRequest, user_service_client::UserServiceClient};
use shell::{Shell, readiness::Need, readiness::Part, trace::Cause};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use crate::core::pacing::ChatId;

/// What user-manager says about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// Not registered, or registered anew since.
    Gone,
    /// Registered, and has named no chat yet.
    NoChat,
    /// Reads this chat.
    Chat(ChatId),
}

/// Asks user-manager. Nothing is remembered: an answer costs about a millisecond, and a remembered
/// one could send to a chat that its owner has just taken away.
pub struct Directory {
    client: UserServiceClient<Channel>,
    part: Mutex<Part>,
}

impl Directory {
    /// Connects when it is first asked.
    #[must_use]
    pub fn new(shell: &Shell, endpoint: Endpoint) -> Self {
        let part = shell.readiness.part("user-manager", Need::Optional, "not asked yet");
        part.up_with("not asked yet");
        Self { client: UserServiceClient::new(shell::grpc::channel(endpoint)), part: Mutex::new(part) }
    }

    /// Where the person with this address, and this id where one is known, reads messages.
    ///
    /// # Errors
    /// When user-manager cannot say.
    pub async fn contact(&self, email: &str, user_id: Option<Uuid>, cause: &Cause) -> anyhow::Result<Contact> {
        let request = UserRequest { email: email.to_owned(), user_id: user_id.map(|id| id.to_string()) };
        let answer = self.client.clone().get_contact(shell::grpc::request(request, cause)).await;
        match answer {
            Ok(answer) => {
                self.note(|part| part.up());
                let answer = answer.into_inner();
                Ok(match answer.telegram_chat_id {
                    _ if !answer.exists => Contact::Gone,
                    None | Some(0) => Contact::NoChat,
                    Some(id) => Contact::Chat(ChatId(id)),
                })
            }
            Err(status) if status.code() == Code::NotFound => Ok(Contact::Gone),
            Err(status) => {
                let reason = reason(&status);
                self.note(|part| part.down(reason.clone()));
                Err(anyhow!("user-manager {reason}"))
            }
        }
    }

    fn note(&self, say: impl FnOnce(&Part)) {
        say(&self.part.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

/// The kind of failure. Its message could repeat the address that was asked about.
fn reason(status: &Status) -> String {
    format!("does not answer: {}", status.code().description())
}
