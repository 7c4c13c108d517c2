//! Certificates: self-signed ones of an entry ([`self_signed`]), and those that an authority of one's own signs
//! ([`authority`]), in folders that hold `cert.pem` and `key.pem`.

pub mod authority;
mod files;
mod pair;
pub mod self_signed;

use anyhow::Context;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

pub use pair::Pair;

const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

/// How long a server's certificate is valid: as long as browsers accept one from a public authority
/// (CA/Browser Forum, Baseline Requirements, until March 2026).
const SERVER_VALID: TimeDelta = TimeDelta::days(397);

/// What the certificate of a server that is asked by `names` says, whoever signs it.
fn of_a_server(names: Vec<String>) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names).context("name the certificate")?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid_from_today(&mut params, SERVER_VALID);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Flightbell");
    Ok(params)
}

/// A key as PEM text has it. `name` is that of its file.
fn key_pair(pem: Vec<u8>, name: &str) -> anyhow::Result<KeyPair> {
    let pem = String::from_utf8(pem).with_context(|| format!("read the key: {name} must be PEM"))?;
    KeyPair::from_pem(&pem).with_context(|| format!("read the key in {name}"))
}

/// Makes a certificate valid for `time` from now on, with a day's grace for clients whose clock is behind.
fn valid_from_today(params: &mut CertificateParams, time: TimeDelta) {
    let byte = |number: u32| u8::try_from(number).unwrap_or(1);
    let midnight = |day: DateTime<Utc>| rcgen::date_time_ymd(day.year(), byte(day.month()), byte(day.day()));
    params.not_before = midnight(Utc::now() - TimeDelta::days(1));
    params.not_after = midnight(Utc::now() + time);
}

/// Whether a certificate can hold this as a DNS name: labels of ASCII letters, digits and hyphens.
fn is_dns_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}
