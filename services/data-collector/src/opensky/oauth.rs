//! OAuth2 client credentials: a token that is fetched when needed and refreshed before it ends.

use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use url::Url;

use super::wire;

/// How long before its end a token is fetched anew.
const REFRESH_AHEAD: Duration = Duration::from_secs(30);

/// How long a token is used at most, whatever it says of itself.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How long a token is used that says nothing of use about its life. One that has ended is refused with 401,
/// and fetched anew.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(60);

/// Who we are at OpenSky.
#[derive(Clone)]
pub struct Credentials {
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretString,
}

pub(super) struct OAuthClient {
    pub(super) url: Url,
    pub(super) credentials: Credentials,
    token: Mutex<Option<Token>>,
}

struct Token {
    secret: SecretString,
    refresh_at: Instant,
}

impl OAuthClient {
    pub(super) fn new(url: Url, credentials: Credentials) -> Self {
        Self { url, credentials, token: Mutex::new(None) }
    }

    /// The token at hand, or the one that `fetch` brings. One caller fetches, the others wait.
    pub(super) async fn token<E>(
        &self,
        fetch: impl Future<Output = Result<wire::Token, E>>,
    ) -> Result<SecretString, E> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_ref().filter(|token| Instant::now() < token.refresh_at) {
            return Ok(token.secret.clone());
        }
        let fetched = fetch.await?;
        let lifetime = fetched.lifetime.unwrap_or(ASSUMED_LIFETIME).min(LONGEST_LIFETIME);
        // One that lives shorter than we refresh ahead is used for half its life.
        let useful = lifetime.checked_sub(REFRESH_AHEAD).filter(|useful| !useful.is_zero()).unwrap_or(lifetime / 2);
        let secret = fetched.access_token;
        *held = Some(Token { secret: secret.clone(), refresh_at: Instant::now() + useful });
        Ok(secret)
    }

    /// Forgets `refused`, unless another caller has replaced it already.
    pub(super) async fn forget(&self, refused: &SecretString) {
        let mut held = self.token.lock().await;
        if held.as_ref().is_some_and(|token| token.secret.expose_secret() == refused.expose_secret()) {
            *held = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_used_whatever_it_says_of_its_life() {
        for lifetime in [None, Some(Duration::MAX), Some(Duration::from_secs(1800))] {
            let credentials = Credentials { client_id: "a".to_owned(), client_secret: "b".to_owned().into() };
            let oauth = OAuthClient::new("https://opensky.example/token".parse().expect("a URL"), credentials);
            let token = |text: &str| wire::Token { access_token: text.to_owned().into(), lifetime };
            let first = oauth.token(async { Ok::<_, ()>(token("first")) }).await;
            assert_eq!(first.expect("a token").expose_secret(), "first");
            // It is not fetched anew for every call.
            let second = oauth.token(async { Ok::<_, ()>(token("second")) }).await;
            assert_eq!(second.expect("a token").expose_secret(), "first", "{lifetime:?}");
        }
    }
}
