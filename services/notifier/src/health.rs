//! What `/readyz` says about Telegram: whether it works, and whether the token is any good.
//!
//! While Telegram is away the ledger keeps everything, so the service is ready all the same. With a
//! token that Telegram refuses it never gets better by itself: not ready, and said.

use std::{sync::Arc, time::Duration};

use runtime::{
    ServiceRuntime,
    readiness::{Criticality, HealthPart},
};

use crate::{
    core::send_result::TelegramFault,
    telegram::{Telegram, TokenCheck},
};

/// How often a token that was not accepted is tried again.
const TOKEN_INTERVAL: Duration = Duration::from_secs(15);
/// How often it is asked about before that is believed, and how soon.
const REFUSALS: u32 = 2;
const FIRST_INTERVAL: Duration = Duration::from_secs(2);
const REFUSED: &str =
    "Telegram refuses TELEGRAM_BOT_TOKEN: ask @BotFather for the bot's token, or check TELEGRAM_API_URL";

/// The two parts.
pub struct Health {
    telegram: HealthPart,
    token: HealthPart,
}

impl Health {
    /// Nothing known yet, nothing feared.
    #[must_use]
    pub fn new(runtime: &ServiceRuntime) -> Arc<Self> {
        let telegram = runtime.readiness.part("telegram", Criticality::Optional, "not tried yet");
        telegram.up_with("not tried yet");
        let token = runtime.readiness.part("telegram token", Criticality::Required, "not tried yet");
        token.up_with("not tried yet");
        Arc::new(Self { telegram, token })
    }

    /// Telegram had this fault, or none, and has that one now. Says so once.
    pub fn telegram(&self, before: Option<TelegramFault>, after: Option<TelegramFault>) {
        match after {
            Some(fault) => {
                if before != after {
                    tracing::warn!("Telegram {}; nothing is sent but a probe now and then", fault.as_str());
                }
                self.telegram.down(fault.as_str());
                // Once may be a proxy's mistake; twice in a row, a probe's interval apart, is believed.
                if fault == TelegramFault::WrongToken && before == after {
                    self.token.down(REFUSED);
                }
            }
            None => {
                if before.is_some() {
                    tracing::info!("Telegram works again");
                }
                self.telegram.up();
                self.token.up();
            }
        }
    }

    /// Asks Telegram about the token until it accepts it, so that a wrong one shows before the first
    /// alert does.
    pub async fn check_token(self: Arc<Self>, telegram: Telegram, runtime: ServiceRuntime) {
        let mut refusals = 0u32;
        loop {
            match telegram.check_token().await {
                TokenCheck::Accepted => {
                    self.token.up();
                    return;
                }
                TokenCheck::Refused => {
                    refusals += 1;
                    if refusals == REFUSALS {
                        tracing::error!("{REFUSED}");
                    }
                    if refusals >= REFUSALS {
                        self.token.down(REFUSED);
                    }
                }
                TokenCheck::Unknown => tracing::debug!("Telegram does not answer whether it knows the token"),
            }
            tokio::select! {
                () = runtime.tasks.stopping().cancelled() => return,
                () = tokio::time::sleep(if refusals < REFUSALS { FIRST_INTERVAL } else { TOKEN_INTERVAL }) => {}
            }
        }
    }
}
