//! HTTP clients for what somebody else serves.

use reqwest::ClientBuilder;
use url::{Host, Url};

/// A client for these addresses. It goes through the proxy that the environment names (`HTTPS_PROXY`,
/// `HTTP_PROXY`, except for hosts in `NO_PROXY`), unless every address is on this machine: no proxy
/// elsewhere could reach it.
pub fn client_for<'a>(addresses: impl IntoIterator<Item = &'a Url>) -> ClientBuilder {
    let builder = reqwest::Client::builder();
    if addresses.into_iter().all(is_on_this_machine) { builder.no_proxy() } else { builder }
}

fn is_on_this_machine(address: &Url) -> bool {
    match address.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_on_this_machine_are_known() {
        let here = ["http://127.0.0.1:8080/a", "http://127.8.8.8", "https://[::1]:1", "http://LOCALHOST:1"];
        let elsewhere = ["https://api.telegram.org", "http://10.0.0.1", "http://localhost.example.org", "http://[::2]"];
        let known = |address: &&str| is_on_this_machine(&address.parse().expect("an address"));
        assert!(here.iter().all(known));
        assert!(!elsewhere.iter().any(known));
    }
}
