use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::{header::CONTENT_TYPE, redirect::Policy};
use runtime::{
    config::{Reader, Vars},
    http_client::{Proxies, client_for},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::finding::Finding;

/// How long OpenSky and Telegram may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A square degree of the sea off Africa: the cheapest question that only OpenSky answers.
const SMALL_BOX: [(&str, &str); 4] = [("lamin", "0"), ("lomin", "0"), ("lamax", "1"), ("lomax", "1")];

/// What came back: the status, what its body is said to be, and the body where it is JSON.
struct Answer {
    status: u16,
    media_type: String,
    body: Value,
}

/// Whether OpenSky and Telegram know us. Asking costs one of the credits that OpenSky gives to an
/// address without signing in, and sends no message. An address that cannot be used is left to the
/// check of the settings, and so is a proxy: nothing is asked past it.
pub(super) async fn check(vars: &dyn Vars) -> Vec<Finding> {
    let mut reader = Reader::new(vars);
    let open_sky = reader.web_url("OPEN_SKY_API_URL", data_collector::config::DEFAULT_API_URL);
    let sign_in = reader.web_url("OPEN_SKY_TOKEN_URL", data_collector::config::DEFAULT_TOKEN_URL);
    let telegram = reader.web_url("TELEGRAM_API_URL", notifier::config::BOT_API);
    let (id, secret) = (reader.raw("OPEN_SKY_CLIENT_ID"), reader.secret("OPEN_SKY_CLIENT_SECRET"));
    let token = reader.secret("TELEGRAM_BOT_TOKEN");
    let mut of_proxies = Reader::new(vars);
    let proxies = Proxies::read(&mut of_proxies);
    if of_proxies.finish(|| Some(())).is_err() {
        let says = "not asked: the proxy on the way to OpenSky and Telegram cannot be used";
        return vec![Finding::wrong("proxy", says, "see the settings")];
    }
    let on_the_way = ways([&open_sky, &sign_in, &telegram].into_iter().flatten(), &proxies);
    let answers = async { Some(open_sky_answers(open_sky?, &proxies).await) };
    let credentials = async {
        let Some((id, secret)) = id.zip(secret) else {
            let says = "no credentials: anonymous access, 400 credits a day";
            let mend = "set OPEN_SKY_CLIENT_ID and OPEN_SKY_CLIENT_SECRET for 4,000";
            return Some(Finding::note("opensky", says, mend));
        };
        Some(open_sky_knows(sign_in?, &proxies, &id, &secret).await)
    };
    let bot = async {
        let Some(token) = token else {
            let mend = "ask @BotFather for one, and set TELEGRAM_BOT_TOKEN";
            return Some(Finding::wrong("telegram", "no bot token", mend));
        };
        Some(telegram_knows(telegram?, &proxies, &token).await)
    };
    let (answers, credentials, bot) = tokio::join!(answers, credentials, bot);
    on_the_way.into_iter().chain([answers, credentials, bot].into_iter().flatten()).collect()
}

/// The proxies on the way to these addresses, with the settings that name them.
fn ways<'a>(addresses: impl Iterator<Item = &'a Url>, proxies: &Proxies) -> Vec<Finding> {
    let mut hosts: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for address in addresses {
        if let Some(way) = proxies.on_the_way_to(address) {
            hosts.entry(way).or_default().insert(address.host_str().unwrap_or_default());
        }
    }
    let said = hosts.into_iter().map(|((key, proxy), hosts)| {
        let hosts = Vec::from_iter(hosts).join(", ");
        Finding::fine("proxy", format!("{key} names {proxy}, on the way to {hosts} unless NO_PROXY leaves it out"))
    });
    said.collect()
}

async fn open_sky_answers(url: Url, proxies: &Proxies) -> Finding {
    let host = url.host_str().unwrap_or_default().to_owned();
    let states = format!("{}/states/all", url.as_str().trim_end_matches('/'));
    match ask(&url, proxies, |client| client.get(states).query(&SMALL_BOX)).await {
        Ok(Answer { status: 200, body, .. }) if is_states(&body) => Finding::fine("opensky", format!("{host} answers")),
        Ok(Answer { status: 429, .. }) => {
            let says = format!("{host} answers, and has no credits left for this address without signing in");
            Finding::note("opensky", says, "wait until tomorrow, or sign in with credentials")
        }
        Ok(answer) => not_as_expected("opensky", &host, &answer, "OPEN_SKY_API_URL"),
        Err(error) => unreachable_now("opensky", &host, error),
    }
}

/// Without any aircraft `states` is null, but it is there.
fn is_states(body: &Value) -> bool {
    body["time"].is_number() && body.get("states").is_some_and(|states| states.is_null() || states.is_array())
}

async fn open_sky_knows(url: Url, proxies: &Proxies, id: &str, secret: &SecretString) -> Finding {
    let host = url.host_str().unwrap_or_default().to_owned();
    let form = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret.expose_secret())];
    match ask(&url, proxies, |client| client.post(url.clone()).form(&form)).await {
        Ok(Answer { status: 200, body, .. }) if body["access_token"].is_string() => {
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

async fn telegram_knows(base: Url, proxies: &Proxies, token: &SecretString) -> Finding {
    let host = base.host_str().unwrap_or_default().to_owned();
    let me = format!("{}/bot{}/getMe", base.as_str().trim_end_matches('/'), token.expose_secret());
    match ask(&base, proxies, |client| client.get(me)).await {
        Ok(Answer { status: 200, body, .. }) if body["ok"] == true => {
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
    proxies: &Proxies,
    question: impl FnOnce(reqwest::Client) -> reqwest::RequestBuilder,
) -> Result<Answer, reqwest::Error> {
    // None of them redirects: a server that does is not theirs, and must not get what we send.
    let client = client_for([address], proxies)?.redirect(Policy::none()).timeout(LIMIT).build()?;
    let answer = question(client).send().await?;
    let media_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().to_owned();
    Ok(Answer { status: answer.status().as_u16(), media_type, body: answer.json().await.unwrap_or_default() })
}

fn not_as_expected(what: &'static str, host: &str, answer: &Answer, key: &str) -> Finding {
    let says = match (answer.status, answer.media_type.as_str()) {
        (status @ (429 | 500..), _) => {
            return Finding::note(what, format!("{host} answers {status}"), "try again later");
        }
        (407, _) => {
            let says = format!("a proxy on the way to {host} asks who we are (407)");
            return Finding::wrong(
                what,
                says,
                "put the proxy's user and password into the setting that names it: HTTPS_PROXY, HTTP_PROXY or ALL_PROXY",
            );
        }
        (status @ 300..400, _) => format!("{host} answers {status}, which sends elsewhere: {what} does not"),
        (status, "") => format!("{host} answers {status}, but not as {what} does"),
        (status, media_type) => format!("{host} answers {status} with {media_type}, but not as {what} does"),
    };
    let mend = format!("correct {key}, or look for a proxy or a network's sign-in page in between that answers itself");
    Finding::wrong(what, says, mend)
}

/// The address of the call may hold the token, so it is left out.
fn unreachable_now(what: &'static str, host: &str, error: reqwest::Error) -> Finding {
    let error = anyhow::Error::new(error.without_url());
    Finding::wrong(what, format!("{host} cannot be reached: {error:#}"), "check this machine's network and proxies")
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::any};
    use reqwest::header::LOCATION;

    use super::*;
    use crate::doctor::finding::Severity;

    /// What is found about OpenSky, its sign-in and Telegram when all three answer so.
    async fn found(status: u16, body: &'static str) -> [Severity; 3] {
        let findings = findings(status, body).await;
        let [open_sky, sign_in, telegram] = &findings[..] else { panic!("{findings:?}") };
        [open_sky.severity, sign_in.severity, telegram.severity]
    }

    async fn findings(status: u16, body: &'static str) -> Vec<Finding> {
        let status = StatusCode::from_u16(status).expect("a status");
        // A client that follows a redirect is told what it wants to hear.
        let elsewhere = async || ([(CONTENT_TYPE, "application/json")], EVERYTHING);
        let answer =
            async move || (status, [(LOCATION, "/elsewhere"), (CONTENT_TYPE, "text/html; charset=utf-8")], body);
        let app = Router::new().route("/elsewhere", any(elsewhere)).fallback(any(answer));
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
        runtime::choose_tls();
        let findings = check(&vars).await;
        assert!(findings.iter().all(|finding| !finding.to_string().contains("1:a")), "{findings:?}");
        findings
    }

    /// What all three say when all is well.
    const EVERYTHING: &str = r#"{"time": 1, "states": null, "access_token": "t", "expires_in": 1800,
        "ok": true, "result": {"username": "bell_bot"}}"#;

    #[tokio::test]
    async fn only_what_they_would_say_themselves_is_believed() {
        use Severity::{Fine, Note, Wrong};
        assert_eq!(found(200, EVERYTHING).await, [Fine; 3]);
        for html in ["<html>Please sign in to this hotel's network</html>", "{}", r#"{"time": 1, "states": {}}"#] {
            assert_eq!(found(200, html).await, [Wrong; 3], "{html}");
        }
        assert_eq!(found(200, r#"{"time": 1, "states": []}"#).await, [Fine, Wrong, Wrong]);
        for status in [302, 307, 401, 404, 407] {
            assert_eq!(found(status, EVERYTHING).await, [Wrong; 3], "{status}");
        }
        // Too many questions, and trouble of theirs, say nothing about us.
        assert_eq!(found(429, "{}").await, [Note; 3]);
        assert_eq!(found(503, "").await, [Note; 3]);
    }

    #[tokio::test]
    async fn what_came_instead_is_said_with_what_mends_it() {
        let said = async |status| findings(status, "<html></html>").await[0].to_string();
        let page = said(200).await;
        assert!(page.contains("200 with text/html") && page.contains("OPEN_SKY_API_URL"), "{page}");
        let proxy = said(407).await;
        assert!(proxy.contains("a proxy") && proxy.contains("HTTPS_PROXY"), "{proxy}");
        let elsewhere = said(302).await;
        assert!(elsewhere.contains("302, which sends elsewhere"), "{elsewhere}");
    }
}
