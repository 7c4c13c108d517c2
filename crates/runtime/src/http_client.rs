//! HTTP clients for third parties' servers, through the proxies that the settings name.

use std::fmt;

use reqwest::{ClientBuilder, NoProxy, Proxy, Response};
use url::{Host, Url};

use crate::config::{Reader, without_password};

/// The settings that name proxies, and hosts that are reached without. The first that is set counts.
pub const PROXY_KEYS: [&str; 8] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];

/// What a proxy of ours can speak.
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// No proxy elsewhere could reach these.
const THIS_MACHINE: &str = "localhost,127.0.0.0/8,::1";

/// The proxies through which others are reached. Its `Debug` and `Display` show no passwords.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<Named>,
    http: Option<Named>,
    without: String,
}

/// A proxy, and the setting that names it.
#[derive(Clone)]
struct Named {
    key: &'static str,
    url: Url,
}

impl Proxies {
    /// The proxies that the settings name: `HTTPS_PROXY` and `HTTP_PROXY`, or `ALL_PROXY` for both, and
    /// `NO_PROXY`; in small letters too. One that cannot be used is a problem: it is never passed by.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let [https, https_small, http, http_small, all, all_small, without, without_small] = PROXY_KEYS;
        let https = named(reader, &[https, https_small], &[all, all_small]);
        let http = named(reader, &[http, http_small], &[all, all_small]);
        let without = reader.first(&[without, without_small]).map(|(_, hosts)| hosts).unwrap_or_default();
        Self { https, http, without }
    }

    /// The proxy on the way to `address`, in words without its password, and the setting that names it.
    #[must_use]
    pub fn on_the_way_to(&self, address: &Url) -> Option<(&'static str, String)> {
        let proxy = if address.scheme() == "https" { &self.https } else { &self.http };
        let proxy = proxy.as_ref().filter(|_| !is_on_this_machine(address))?;
        Some((proxy.key, without_password(proxy.url.as_str()).into_owned()))
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |proxy: &Option<Named>| proxy.as_ref().map(|proxy| without_password(proxy.url.as_str()).into_owned());
        let mut shows = f.debug_struct("Proxies");
        shows.field("https", &shown(&self.https)).field("http", &shown(&self.http)).field("without", &self.without);
        shows.finish()
    }
}

fn named(reader: &mut Reader<'_>, own: &[&'static str], all: &[&'static str]) -> Option<Named> {
    let (key, value) = reader.first(own).or_else(|| reader.first(all))?;
    let url = usable(&value);
    if url.is_none() {
        let problem = format!(
            "{key}={:?} cannot be used: it must be a proxy such as http://HOST:PORT or socks5h://HOST:PORT; unset it to \
             use none",
            without_password(&value)
        );
        reader.problem_once(problem);
    }
    Some(Named { key, url: url? })
}

/// The address of a proxy; a host alone speaks HTTP.
fn usable(value: &str) -> Option<Url> {
    let url: Url = if value.contains("://") { value.parse() } else { format!("http://{value}").parse() }.ok()?;
    // The client reads the address anew, and would do without a proxy where that fails.
    let is_read_again = url.as_str().parse::<http::Uri>().is_ok_and(|uri| uri.authority().is_some());
    let is_usable =
        SCHEMES.contains(&url.scheme()) && url.has_host() && is_read_again && Proxy::all(url.clone()).is_ok();
    is_usable.then_some(url)
}

/// A client for these addresses, through `proxies`, except for hosts that the settings leave out and
/// those on this machine.
///
/// # Errors
/// When a proxy cannot be used, which [`Proxies::read`] has told before.
pub fn client_for<'a>(
    addresses: impl IntoIterator<Item = &'a Url>,
    proxies: &Proxies,
) -> reqwest::Result<ClientBuilder> {
    // Without this the client reads the environment by itself, and passes by what it cannot read.
    let builder = reqwest::Client::builder().no_proxy();
    if addresses.into_iter().all(is_on_this_machine) {
        return Ok(builder);
    }
    let without = NoProxy::from_string(&format!("{THIS_MACHINE},{}", proxies.without));
    let https = proxies.https.as_ref().map(|proxy| Proxy::https(proxy.url.clone())).transpose()?;
    let http = proxies.http.as_ref().map(|proxy| Proxy::http(proxy.url.clone())).transpose()?;
    let proxies = [https, http].into_iter().flatten();
    Ok(proxies.fold(builder, |builder, proxy| builder.proxy(proxy.no_proxy(without.clone()))))
}

fn is_on_this_machine(address: &Url) -> bool {
    match address.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Why an answer's body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the caller takes.
    #[error("the answer is too large")]
    TooLarge,
    /// It broke off, or did not arrive in time.
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
}

/// The body of an answer, of at most `limit` bytes: what others serve may be endless. Errors name no address.
///
/// # Errors
/// When the body is longer, breaks off or does not arrive in time.
pub async fn read_capped(mut response: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| BodyError::Broken(error.without_url()))?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn addresses_on_this_machine_are_known() {
        let here = ["http://127.0.0.1:8080/a", "http://127.8.8.8", "https://[::1]:1", "http://LOCALHOST:1"];
        let elsewhere = ["https://api.telegram.org", "http://10.0.0.1", "http://localhost.example.org", "http://[::2]"];
        let known = |address: &&str| is_on_this_machine(&address.parse().expect("an address"));
        assert!(here.iter().all(known));
        assert!(!elsewhere.iter().any(known));
    }

    fn read(vars: &[(&str, &str)]) -> Result<Proxies, crate::config::ConfigError> {
        let vars: HashMap<String, String> =
            vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut reader = Reader::new(&vars);
        let proxies = Proxies::read(&mut reader);
        reader.finish(|| Some(proxies))
    }

    fn way(vars: &[(&str, &str)], address: &str) -> Option<(&'static str, String)> {
        read(vars).expect("proxies").on_the_way_to(&address.parse().expect("an address"))
    }

    #[test]
    fn each_kind_of_address_has_its_proxy_and_all_proxy_stands_in_for_both() {
        let all = ("all_proxy", "socks5h://all.test:1080");
        let vars = [("HTTPS_PROXY", "proxy.test:3128"), ("https_proxy", "http://other.test"), all, ("HTTP_PROXY", " ")];
        let through = |key: &'static str, proxy: &str| Some((key, proxy.to_owned()));
        assert_eq!(way(&vars, "https://a.test"), through("HTTPS_PROXY", "http://proxy.test:3128/"));
        assert_eq!(way(&vars, "http://a.test"), through("all_proxy", "socks5h://all.test:1080"));
        assert_eq!(way(&vars, "http://127.0.0.1:1"), None);
        assert_eq!(way(&[("HTTP_PROXY", "http://p.test")], "https://a.test"), None);
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_a_problem_and_its_password_is_not_shown() {
        for value in
            ["ftp://p.test", "socks6://p.test", "http://", "://p.test", "http://p.test:99999", "socks5:p.test", "a b"]
        {
            for key in ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"] {
                let problems = read(&[(key, value)]).expect_err(value);
                assert_eq!(problems.problems().len(), 1, "{problems}");
                assert!(problems.problems()[0].starts_with(&format!("{key}=")), "{problems}");
            }
        }
        let problems = read(&[("ALL_PROXY", "ftp://ada:hush@p.test")]).expect_err("a problem").to_string();
        assert!(problems.contains("p.test") && !problems.contains("hush"), "{problems}");
        let vars = [("ALL_PROXY", "socks5://ada:hush@p.test")];
        let shown = format!("{:?} {:?}", read(&vars).expect("proxies"), way(&vars, "https://a.test"));
        assert!(shown.contains("p.test") && !shown.contains("hush") && !shown.contains("ada"), "{shown}");
    }
}
