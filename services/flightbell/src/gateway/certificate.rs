use std::{
    fs,
    io::Write,
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use chrono::{Datelike, TimeDelta, Utc};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

/// How long a certificate is valid: as long as browsers accept one from a public authority
/// (CA/Browser Forum, Baseline Requirements, until March 2026).
const VALID: TimeDelta = TimeDelta::days(397);
/// A certificate older than this is replaced at the next start.
const RENEW_AFTER: Duration = Duration::from_secs(300 * 24 * 3600);

/// A certificate and its key, both PEM.
pub(super) struct Pair {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// The certificate in `folder`, or a new self-signed one for this machine and `listen`.
///
/// Put `cert.pem` and `key.pem` of your own there and they are taken; only a certificate that was
/// made here is ever replaced.
pub(super) fn load_or_make(folder: &Path, listen: SocketAddr) -> anyhow::Result<Pair> {
    let (certificate, key, marker) = (folder.join("cert.pem"), folder.join("key.pem"), folder.join("self-signed"));
    let ours_and_old = marker.exists() && age(&marker).is_none_or(|age| age > RENEW_AFTER);
    if ours_and_old || !certificate.exists() || !key.exists() {
        fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
        let made = make(listen.ip())?;
        write(&key, &made.key)?;
        write(&certificate, &made.certificate)?;
        write(&marker, b"cert.pem and key.pem were made by flightbell, which replaces them before they expire\n")?;
        return Ok(made);
    }
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    Ok(Pair { certificate: read(&certificate)?, key: read(&key)? })
}

fn make(listen: IpAddr) -> anyhow::Result<Pair> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.is_unspecified() && !listen.is_loopback() {
        names.push(listen.to_string());
    }
    if let Ok(host) = rustix::system::uname().nodename().to_owned().into_string() {
        names.push(host);
    }
    let mut params = CertificateParams::new(names).context("name the certificate")?;
    // A day's grace, for clients whose clock is behind.
    let (begin, end) = (Utc::now() - TimeDelta::days(1), Utc::now() + VALID);
    let byte = |number: u32| u8::try_from(number).unwrap_or(1);
    params.not_before = rcgen::date_time_ymd(begin.year(), byte(begin.month()), byte(begin.day()));
    params.not_after = rcgen::date_time_ymd(end.year(), byte(end.month()), byte(end.day()));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Flightbell");
    let key = KeyPair::generate().context("make a key")?;
    let certificate = params.self_signed(&key).context("sign the certificate")?;
    Ok(Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() })
}

fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

/// Writes a file that only its owner can read, whole or not at all.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let unfinished = path.with_extension("new");
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    })();
    written.with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let listen = SocketAddr::from(([127, 0, 0, 1], 8443));
        let first = load_or_make(folder.path(), listen).expect("made");
        let second = load_or_make(folder.path(), listen).expect("read");
        assert_eq!(first.certificate, second.certificate);
        let mode = fs::metadata(folder.path().join("key.pem")).expect("the key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_of_the_operator_is_taken_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("cert.pem"), "mine").expect("write");
        fs::write(folder.path().join("key.pem"), "mine too").expect("write");
        let pair = load_or_make(folder.path(), SocketAddr::from(([127, 0, 0, 1], 8443))).expect("read");
        assert_eq!((pair.certificate.as_slice(), pair.key.as_slice()), (&b"mine"[..], &b"mine too"[..]));
    }
}
