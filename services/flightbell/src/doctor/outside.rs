use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use shell::config::{Reader, Vars};

use super::finding::Finding;

/// How long OpenSky and Telegram may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Whether OpenSky and Telegram know us. Asking costs no credits and sends no message.
pub(super) async fn check(vars: &dyn Vars) -> Vec<Finding> {
    let client = match reqwest::Client::builder().timeout(LIMIT).build() {
        Ok(client) => client,
        Err(error) => return vec![Finding::told("outside", &error)],
    };
    vec![open_sky(&client, vars).await, telegram(&client, vars).await]
}

async fn open_sky(client: &reqwest::Client, vars: &dyn Vars) -> Finding {
    let mut reader = Reader::new(vars);
    let (id, secret) = (reader.raw("OPEN_SKY_CLIENT_ID"), reader.secret("OPEN_SKY_CLIENT_SECRET"));
    let (Some(id), Some(secret)) = (id, secret) else {
        return Finding::note(
            "opensky",
            "no credentials: anonymous access, 400 credits a day",
            "set OPEN_SKY_CLIENT_ID and OPEN_SKY_CLIENT_SECRET for 4,000",
        );
    };
    let url = reader.raw("OPEN_SKY_TOKEN_URL").unwrap_or_else(|| data_collector::config::DEFAULT_TOKEN_URL.to_owned());
    let form = [("grant_type", "client_credentials"), ("client_id", &id), ("client_secret", secret.expose_secret())];
    match client.post(url).form(&form).send().await {
        Ok(answer) if answer.status().is_success() => Finding::fine("opensky", "the credentials are accepted"),
        Ok(answer) if answer.status().is_client_error() => Finding::wrong(
            "opensky",
            format!("the credentials are refused ({})", answer.status()),
            "make a new API client on OpenSky's account page, and set its id and secret",
        ),
        Ok(answer) => Finding::note("opensky", format!("sign-in answers {}", answer.status()), "try again later"),
        Err(error) => unreachable_now("opensky", error),
    }
}

async fn telegram(client: &reqwest::Client, vars: &dyn Vars) -> Finding {
    let mut reader = Reader::new(vars);
    let Some(token) = reader.secret("TELEGRAM_BOT_TOKEN") else {
        return Finding::wrong("telegram", "no bot token", "ask @BotFather for one, and set TELEGRAM_BOT_TOKEN");
    };
    let base = reader.raw("TELEGRAM_API_URL").unwrap_or_else(|| notifier::config::BOT_API.to_owned());
    match client.get(me(&base, &token)).send().await {
        Ok(answer) if answer.status().is_success() => {
            let answer: Value = answer.json().await.unwrap_or_default();
            let name = answer["result"]["username"].as_str().unwrap_or("?").to_owned();
            Finding::fine("telegram", format!("the bot is @{name}"))
        }
        Ok(answer) if [401, 404].contains(&answer.status().as_u16()) => Finding::wrong(
            "telegram",
            "the bot token is refused",
            "ask @BotFather for the token again (/token), and set TELEGRAM_BOT_TOKEN",
        ),
        Ok(answer) => Finding::note("telegram", format!("answers {}", answer.status()), "try again later"),
        Err(error) => unreachable_now("telegram", error),
    }
}

fn me(base: &str, token: &SecretString) -> String {
    format!("{}/bot{}/getMe", base.trim_end_matches('/'), token.expose_secret())
}

/// The address of the call holds the token, so it is left out.
fn unreachable_now(what: &'static str, error: reqwest::Error) -> Finding {
    Finding::wrong(
        what,
        format!("cannot be reached: {}", error.without_url()),
        "check this machine's network and proxies",
    )
}
