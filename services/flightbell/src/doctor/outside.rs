use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use shell::{
    config::{Reader, Vars},
    outside::client_for,
};
use url::Url;

use super::finding::Finding;

/// How long OpenSky and Telegram may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What came back: the status, and the body where it is JSON.
struct Answer {
    status: u16,
    body: Value,
}

/// Whether OpenSky and Telegram know us. Asking costs no credits and sends no message. An address
/// that cannot be used is left to the check of the settings.
pub(super) async fn check(vars: &dyn Vars) -> Vec<Finding> {
    let mut reader = Reader::new(vars);
    let open_sky = reader.web_url("OPEN_SKY_API_URL", data_collector::config::DEFAULT_API_URL);
    let sign_in = reader.web_url("OPEN_SKY_TOKEN_URL", data_collector::config::DEFAULT_TOKEN_URL);
    let telegram = reader.web_url("TELEGRAM_API_URL", notifier::config::BOT_API);
    let (id, secret) = (reader.raw("OPEN_SKY_CLIENT_ID"), reader.secret("OPEN_SKY_CLIENT_SECRET"));
    let token = reader.secret("TELEGRAM_BOT_TOKEN");
    let answers = async { Some(open_sky_answers(open_sky?).await) };
    let credentials = async {
        let Some((id, secret)) = id.zip(secret) else {
            let says = "no credentials: anonymous access, 400 credits a day";
            let mend = "set OPEN_SKY_CLIENT_ID and OPEN_SKY_CLIENT_SECRET for 4,000";
            return Some(Finding::note("opensky", says, mend));
        };
        Some(open_sky_knows(sign_in?, &id, &secret).await)
    };
    let bot = async {
        let Some(token) = token else {
            let mend = "ask @BotFather for one, and set TELEGRAM_BOT_TOKEN";
            return Some(Finding::wrong("telegram", "no bot token", mend));
        };
        Some(telegram_knows(telegram?, &token).await)
    };
    let (answers, credentials, bot) = tokio::join!(answers, credentials, bot);
    [answers, credentials, bot].into_iter().flatten().collect()
}

/// The root of the interface costs no credits, and whatever it answers was an answer.
async fn open_sky_answers(url: Url) -> Finding {
    let host = url.host_str().unwrap_or_default().to_owned();
    match ask(&url, |client| client.get(url.clone())).await {
        Ok(answer) if answer.status < 500 => Finding::fine("opensky", format!("{host} answers")),
        Ok(answer) => Finding::note("opensky", format!("{host} answers {}", answer.status), "try again later"),
        Err(error) => unreachable_now("opensky", &host, error),
    }
}

async fn open_sky_knows(url: Url, id: &str, secret: &SecretString) -> Finding {
    let host = url.host_str().unwrap_or_default().to_owned();
    let form = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret.expose_secret())];
    match ask(&url, |client| client.post(url.clone()).form(&form)).await {
        Ok(Answer { status: 200, body }) if body["access_token"].is_string() => {
            Finding::fine("opensky", "the credentials are accepted")
        }
        Ok(Answer { status: status @ (400 | 401 | 403), .. }) => Finding::wrong(
            "opensky",
            format!("the credentials are refused ({status})"),
            "make a new API client on OpenSky's account page, and set its id and secret",
        ),
        Ok(answer) => not_as_expected("opensky", &host, &answer, "OPEN_SKY_TOKEN_URL"),
        Err(error) => unreachable_now("opensky", &host, error),
    }
}

async fn telegram_knows(base: Url, token: &SecretString) -> Finding {
    let host = base.host_str().unwrap_or_default().to_owned();
    let me = format!("{}/bot{}/getMe", base.as_str().trim_end_matches('/'), token.expose_secret());
    match ask(&base, |client| client.get(me)).await {
        Ok(Answer { status: 200, body }) if body["ok"] == true => {
            Finding::fine("telegram", format!("the bot is @{}", body["result"]["username"].as_str().unwrap_or("?")))
        }
        Ok(Answer { status: 401 | 404, .. }) => Finding::wrong(
            "telegram",
            "the bot token is refused",
            "ask @BotFather for the token again (/token), and set TELEGRAM_BOT_TOKEN",
        ),
        Ok(answer) => not_as_expected("telegram", &host, &answer, "TELEGRAM_API_URL"),
        Err(error) => unreachable_now("telegram", &host, error),
    }
}

async fn ask(
    address: &Url,
    question: impl FnOnce(reqwest::Client) -> reqwest::RequestBuilder,
) -> Result<Answer, reqwest::Error> {
    let client = client_for([address]).timeout(LIMIT).build()?;
    let answer = question(client).send().await?;
    Ok(Answer { status: answer.status().as_u16(), body: answer.json().await.unwrap_or_default() })
}

fn not_as_expected(what: &'static str, host: &str, answer: &Answer, key: &str) -> Finding {
    match answer.status {
        200..300 => {
            let says = format!("{host} answers, but not as {what} does");
            Finding::wrong(what, says, format!("correct {key}, or look for a proxy in between that answers itself"))
        }
        status => Finding::note(what, format!("{host} answers {status}"), "try again later"),
    }
}

/// The address of the call may hold the token, so it is left out.
fn unreachable_now(what: &'static str, host: &str, error: reqwest::Error) -> Finding {
    let error = anyhow::Error::new(error.without_url());
    Finding::wrong(what, format!("{host} cannot be reached: {error:#}"), "check this machine's network and proxies")
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::any};

    use super::*;
    use crate::doctor::finding::Verdict;

    /// What is found about OpenSky's sign-in and about Telegram when both answer so.
    async fn found(status: u16, body: &'static str) -> [Verdict; 2] {
        let status = StatusCode::from_u16(status).expect("a status");
        let app = Router::new().fallback(any(async move || (status, body)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await });
        let vars: std::collections::HashMap<String, String> = [
            ("OPEN_SKY_API_URL", url.as_str()),
            ("OPEN_SKY_TOKEN_URL", &url),
            ("OPEN_SKY_CLIENT_ID", "a"),
            ("OPEN_SKY_CLIENT_SECRET", "b"),
            ("TELEGRAM_API_URL", &url),
            ("TELEGRAM_BOT_TOKEN", "1:a"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        shell::choose_tls();
        let findings = check(&vars).await;
        assert!(findings.iter().all(|finding| !finding.to_string().contains("1:a")), "{findings:?}");
        let [_, sign_in, telegram] = &findings[..] else { panic!("{findings:?}") };
        [sign_in.verdict, telegram.verdict]
    }

    #[tokio::test]
    async fn only_what_they_would_say_themselves_is_believed() {
        let both = r#"{"access_token": "t", "expires_in": 1800, "ok": true, "result": {"username": "bell_bot"}}"#;
        assert_eq!(found(200, both).await, [Verdict::Fine; 2]);
        assert_eq!(found(200, "<html>Please sign in to this hotel's network</html>").await, [Verdict::Wrong; 2]);
        assert_eq!(found(401, "{}").await, [Verdict::Wrong; 2]);
        // Too many questions, and trouble of theirs, say nothing about us.
        assert_eq!(found(429, "{}").await, [Verdict::Note; 2]);
        assert_eq!(found(503, "").await, [Verdict::Note; 2]);
    }
}
