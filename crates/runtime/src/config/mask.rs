//! What may be shown of a value.

use std::borrow::Cow;

use url::Url;

/// Stands for what is not shown, however long it is.
pub(super) const HIDDEN: &str = "***";

/// How the names of settings end that must never be shown, whatever the code calls them.
const SECRET_ENDINGS: [&str; 6] = ["TOKEN", "SECRET", "PASSWORD", "PASSPHRASE", "CREDENTIALS", "_KEY"];

/// How much of a URL may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// The path names a database.
    Shown,
    /// The path may be a token, as in addresses of bots and hooks.
    Hidden,
}

/// `value` as it may be shown in an error: a URL without its user, password, query and fragment.
pub fn without_password(value: &str) -> Cow<'_, str> {
    let begin = value.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = value.split_at(begin);
    let authority = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
    // A password may hold what ends an authority, in an address that is none.
    let user_end = authority.rfind('@').or_else(|| rest.rfind('@').filter(|_| begin > 0));
    let (user, rest) = user_end.map_or(("", rest), |at| (HIDDEN, &rest[at..]));
    let query = rest.find(['?', '#']).filter(|_| begin > 0);
    let (rest, query) = query.map_or((rest, ""), |at| (&rest[..at], "?***"));
    match (user, query) {
        ("", "") => Cow::Borrowed(value),
        _ => Cow::Owned(format!("{scheme}{user}{rest}{query}")),
    }
}

/// The value of the setting `key` as it may be shown: nothing where the name is that of a secret, and of a URL
/// scheme, host and port.
pub(super) fn setting(key: &str, value: &str) -> String {
    if SECRET_ENDINGS.iter().any(|ending| key.to_ascii_uppercase().ends_with(ending)) {
        return HIDDEN.to_owned();
    }
    if value.contains("://") { url(value, Path::Hidden) } else { without_password(value).into_owned() }
}

/// The URL of a database as it may be shown: scheme, host, port and the name of the database.
pub(super) fn database(value: &str) -> String {
    url(value, Path::Shown)
}

fn url(value: &str, path: Path) -> String {
    let Ok(url) = Url::parse(value) else { return HIDDEN.to_owned() };
    let Some(host) = url.host_str() else { return HIDDEN.to_owned() };
    let scheme = url.scheme();
    let (query, fragment) = (url.query(), url.fragment());
    // A password with a `/`, `?` or `#` in it ends the authority too early: then the host is the user.
    if [Some(url.path()), query, fragment].into_iter().flatten().any(|part| part.contains('@')) {
        return format!("{scheme}://{HIDDEN}");
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    let user = if has_user { "***@" } else { "" };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = match (url.path(), path) {
        ("" | "/", _) => "",
        (name, Path::Shown) => name,
        (_, Path::Hidden) => "/***",
    };
    let query = if query.or(fragment).is_some() { "?***" } else { "" };
    format!("{scheme}://{user}{host}{port}{path}{query}")
}

/// `text` so that it is one word of one line.
pub(super) fn word(text: &str) -> Cow<'_, str> {
    let quoted = format!("{text:?}");
    let is_plain = quoted.get(1..quoted.len() - 1) == Some(text) && !text.contains([' ', ';']);
    if is_plain { Cow::Borrowed(text) } else { Cow::Owned(quoted) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Reader, RuntimeConfig};

    #[test]
    fn no_password_in_an_address_shows_in_a_problem() {
        for (value, shown) in [
            ("http://ada:hush@host:1/a", "http://***@host:1/a"),
            ("ftp://ada:hu@sh@host", "ftp://***@host"),
            ("http://ada:hu/sh@host", "http://***@host"),
            ("ada:hush@host:1", "***@host:1"),
            ("http://host/a@b", "http://***@b"),
            ("http://host/a?key=hush", "http://host/a?***"),
            ("http://ada@host#hush", "http://***@host?***"),
            ("http://host", "http://host"),
            ("a/b@c", "a/b@c"),
        ] {
            assert_eq!(without_password(value), shown);
        }
        let vars = [
            ("PORT", "http://ada:hush@host"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ada:hush@host:4317"),
            ("URL", "ftp://ada:hush@host"),
        ];
        let mut reader = Reader::new(&vars);
        let _: Option<u16> = reader.optional("PORT");
        RuntimeConfig::read(&mut reader);
        reader.web_url("URL", "http://host");
        let problems = reader.finish(|| Some(())).expect_err("problems");
        assert_eq!(problems.problems().len(), 3, "{problems}");
        assert!(!problems.to_string().contains("hush"), "{problems}");
    }

    #[test]
    fn of_the_url_of_a_setting_no_part_shows_that_may_be_secret() {
        for (value, shown) in [
            ("http://user-manager:50051", "http://user-manager:50051"),
            ("https://ada:hush@host:8443/", "https://***@host:8443"),
            ("https://hush@host", "https://***@host"),
            ("https://host/bot1:hush", "https://host/***"),
            ("https://host?key=hush", "https://host?***"),
            ("https://host#hush", "https://host?***"),
            ("http://hush:12/a@host", "http://***"),
            ("http://ada:hush@[::1", "***"),
            ("socks5h://ada:hu%40sh@proxy.test:1080", "socks5h://***@proxy.test:1080"),
            ("ada:hush@proxy.test:3128", "***@proxy.test:3128"),
            ("localhost:9092,other:9092", "localhost:9092,other:9092"),
        ] {
            assert_eq!(setting("ADDRESS", value), shown);
        }
        for (value, shown) in [
            ("postgres://ada:hush@host:5432/users?sslmode=require", "postgres://***@host:5432/users?***"),
            ("postgres://host/users?password=hush", "postgres://host/users?***"),
            ("postgres://hush:12/a@host/users", "postgres://***"),
            ("postgres:hush", "***"),
            ("hush", "***"),
        ] {
            assert_eq!(database(value), shown);
        }
    }

    #[test]
    fn what_is_named_like_a_secret_never_shows() {
        for key in ["API_TOKEN", "CLIENT_SECRET", "password", "SIGNING_KEY"] {
            assert_eq!(setting(key, "hush"), "***");
        }
    }

    #[test]
    fn a_value_is_one_word_of_one_line() {
        for (value, shown) in [
            ("plain=1,b", "plain=1,b"),
            ("two words", "\"two words\""),
            ("a\n2024 ERROR b", "\"a\\n2024 ERROR b\""),
            ("a;b", "\"a;b\""),
            ("Zürich", "Zürich"),
            ("\u{202e}a", "\"\\u{202e}a\""),
        ] {
            assert_eq!(word(value), shown);
        }
    }
}
