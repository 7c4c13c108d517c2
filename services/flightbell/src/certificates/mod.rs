//! Certificates: self-signed ones of an entry ([`self_signed`]), and those that an authority of one's own signs
//! ([`authority`]), in folders that hold `cert.pem` and `key.pem`.

pub mod authority;
mod files;
mod pair;
pub mod self_signed;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use rcgen::CertificateParams;

pub use pair::Pair;

const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

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
