use std::{
    fs,
    io::Write,
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use chrono::{Datelike, TimeDelta, Utc};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

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
/// made here, of which a copy lies in `self-signed.pem`, is ever replaced.
pub(super) fn load_or_make(folder: &Path, listen: SocketAddr) -> anyhow::Result<Pair> {
    let (certificate, key, copy) = (folder.join("cert.pem"), folder.join("key.pem"), folder.join("self-signed.pem"));
    let found = read(&certificate)?;
    let is_ours = found.is_some() && found == read(&copy)?;
    let is_old = age(&copy).is_none_or(|age| age > RENEW_AFTER);
    match (found, read(&key)?) {
        (Some(certificate), Some(key)) if !(is_ours && is_old) => return Ok(Pair { certificate, key }),
        (Some(_), None) if !is_ours => bail!("{} is missing beside cert.pem: put it there", key.display()),
        (None, Some(_)) if read(&copy)?.is_none() => {
            bail!("{} is missing beside key.pem: put it there", certificate.display())
        }
        _ => {}
    }
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    let made = make(listen.ip())?;
    // The copy comes first: a crash in between leaves a certificate that is known to be ours.
    write(&copy, &made.certificate)?;
    write(&key, &made.key)?;
    write(&certificate, &made.certificate)?;
    Ok(made)
}

impl Pair {
    /// What a server presents: this certificate, with HTTP/2 and HTTP/1.1 to choose from.
    pub(super) fn server_config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.context("read the certificate: cert.pem must be PEM")?;
        if chain.is_empty() {
            bail!("cert.pem holds no certificate: it must be PEM");
        }
        let key =
            PrivateKeyDer::from_pem_slice(&self.key).context("read the certificate's key: key.pem must be PEM")?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.context("use the certificate: cert.pem and key.pem must belong together")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The content of a file, if there is one.
fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
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
        let error = pair.server_config().expect_err("no certificate at all");
        assert!(format!("{error:#}").contains("cert.pem"), "{error:#}");
    }

    #[test]
    fn only_a_certificate_of_ours_is_ever_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let load = || load_or_make(folder.path(), SocketAddr::from(([127, 0, 0, 1], 8443)));
        let first = load().expect("made");
        let long_ago = SystemTime::now() - RENEW_AFTER - Duration::from_secs(60);
        let age = || fs::File::open(at("self-signed.pem")).and_then(|file| file.set_modified(long_ago)).expect("aged");
        age();
        let second = load().expect("made anew");
        assert_ne!(first.certificate, second.certificate);
        second.server_config().expect("a certificate and its key");

        // The operator's own, put over ours.
        fs::write(at("cert.pem"), "mine").expect("write");
        age();
        assert_eq!(load().expect("read").certificate, b"mine");
        fs::remove_file(at("key.pem")).expect("remove");
        assert!(load().err().expect("refused").to_string().contains("key.pem"));
        assert_eq!(fs::read(at("cert.pem")).expect("read"), b"mine");
    }
}
