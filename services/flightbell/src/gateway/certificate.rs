use std::{
    fs,
    io::Write,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use chrono::{Datelike, TimeDelta, Utc};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
/// Copies of the certificates that were made here.
const REMEMBERED: &str = "self-signed.pem";

/// How the name of a file begins that is not whole yet.
const UNFINISHED: &str = ".unfinished-";

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
/// Put `cert.pem` and `key.pem` of your own there and they are taken. Only a certificate that was made
/// here, as `self-signed.pem` remembers, is ever replaced, and a key never is: a new certificate is
/// made with the key that lies there.
///
/// # Errors
/// When a file cannot be read or written, or one of somebody else's pair is missing.
pub(super) fn load_or_make(folder: &Path, listen: SocketAddr) -> anyhow::Result<Pair> {
    let found = Found::read(folder)?;
    let made = match found.next(folder)? {
        Next::Take(pair) => return Ok(pair),
        Next::Make(key) => make(listen.ip(), key)?,
    };
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    clear_away(folder).with_context(|| format!("clear away what a kill left in {}", folder.display()))?;
    for (name, content) in found.steps_to(&made) {
        write(&folder.join(name), &content)?;
    }
    Ok(made)
}

/// What lies in the folder.
struct Found {
    certificate: Option<Vec<u8>>,
    /// Whether the certificate was made here.
    is_ours: bool,
    /// Whether the certificate is due to be replaced, if it is ours.
    is_old: bool,
    key: Option<Vec<u8>>,
    /// The certificates that were made here, the newest last.
    remembered: Vec<CertificateDer<'static>>,
}

/// What is to be done.
enum Next {
    Take(Pair),
    /// A new certificate, with this key or with a new one.
    Make(Option<Vec<u8>>),
}

impl Found {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(CERTIFICATE);
        let certificate = read(&path)?;
        let remembered = read(&folder.join(REMEMBERED))?.map(|pem| chain(&pem).unwrap_or_default()).unwrap_or_default();
        let ours = |pem: &Vec<u8>| matches!(chain(pem).as_deref(), Ok([only]) if remembered.contains(only));
        let is_ours = certificate.as_ref().is_some_and(ours);
        let is_old = age(&path).is_none_or(|age| age > RENEW_AFTER);
        Ok(Self { certificate, is_ours, is_old, key: read(&folder.join(KEY))?, remembered })
    }

    fn next(&self, folder: &Path) -> anyhow::Result<Next> {
        let missing = |name: &str, beside: &str| {
            format!("{} is missing beside {beside}: put it there", folder.join(name).display())
        };
        match (&self.certificate, &self.key) {
            (Some(_), None) if !self.is_ours => bail!(missing(KEY, CERTIFICATE)),
            (None, Some(key)) if !self.is_our_key(key) => bail!(missing(CERTIFICATE, KEY)),
            (Some(certificate), Some(key)) => {
                let pair = Pair { certificate: certificate.clone(), key: key.clone() };
                // A key that does not belong to our certificate is ours too when a crash parted them.
                let is_due = self.is_ours && self.is_our_key(key) && (self.is_old || pair.server_config().is_err());
                Ok(if is_due { Next::Make(Some(pair.key)) } else { Next::Take(pair) })
            }
            (_, key) => Ok(Next::Make(key.clone())),
        }
    }

    fn is_our_key(&self, key: &[u8]) -> bool {
        self.remembered.iter().any(|certificate| together(vec![certificate.clone()], key).is_ok())
    }

    /// The files to write for `made`, in order. After each of them, were it the last, the next start
    /// knows that what lies there is ours: a new certificate is remembered, beside the one in use,
    /// before it or its key is written.
    fn steps_to(&self, made: &Pair) -> Vec<(&'static str, Vec<u8>)> {
        let in_use = self.certificate.as_ref().filter(|_| self.is_ours);
        let remembered = in_use.into_iter().chain([&made.certificate]).flatten().copied().collect();
        let key = self.key.is_none().then(|| (KEY, made.key.clone()));
        let first = [(REMEMBERED, remembered)];
        first.into_iter().chain(key).chain([(CERTIFICATE, made.certificate.clone())]).collect()
    }
}

impl Pair {
    /// What a server presents: this certificate, with HTTP/2 and HTTP/1.1 to choose from.
    pub(super) fn server_config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let chain = chain(&self.certificate).context("read the certificate: cert.pem must be PEM")?;
        if chain.is_empty() {
            bail!("cert.pem holds no certificate: it must be PEM");
        }
        let mut config = together(chain, &self.key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The certificates in a PEM text.
fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

fn together(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> anyhow::Result<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(key).context("read the certificate's key: key.pem must be PEM")?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    config.context("use the certificate: cert.pem and key.pem must belong together, or be removed together")
}

/// The content of a file, if there is one.
fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn make(listen: IpAddr, key: Option<Vec<u8>>) -> anyhow::Result<Pair> {
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
    let key = match key {
        Some(pem) => {
            let pem = String::from_utf8(pem).context("read the key: key.pem must be PEM")?;
            KeyPair::from_pem(&pem).context("read the key")?
        }
        None => KeyPair::generate().context("make a key")?,
    };
    let certificate = params.self_signed(&key).context("sign the certificate")?;
    Ok(Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() })
}

fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

/// Removes files that a kill left half written, since one of them may hold a key.
fn clear_away(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes a file that only its owner can read, whole or not at all.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = (|| {
        // A name that nobody has, and that only we can read.
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        // The next file is written only when this one is there for good.
        fs::File::open(folder)?.sync_all()
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
        let age = || fs::File::open(at("cert.pem")).and_then(|file| file.set_modified(long_ago)).expect("aged");
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

    const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8443);

    fn old(folder: &Path) {
        let long_ago = SystemTime::now() - RENEW_AFTER - Duration::from_secs(60);
        fs::File::open(folder.join("cert.pem")).and_then(|file| file.set_modified(long_ago)).expect("aged");
    }

    /// Whether the next start serves, and takes what it made at the start after it.
    fn starts(folder: &Path) {
        let pair = load_or_make(folder, LISTEN).expect("a certificate");
        pair.server_config().expect("a certificate and its key");
        let again = load_or_make(folder, LISTEN).expect("read");
        assert_eq!((again.certificate, again.key), (pair.certificate.clone(), pair.key));
        old(folder);
        let renewed = load_or_make(folder, LISTEN).expect("renewed");
        assert_ne!(renewed.certificate, pair.certificate, "it is renewed no more");
        renewed.server_config().expect("a certificate and its key");
    }

    #[test]
    fn a_start_after_a_kill_between_any_two_files_serves_and_renews() {
        let all = ["cert.pem", "key.pem", "self-signed.pem"];
        let lost: [&[&str]; 5] = [&all, &all[..2], &["key.pem"], &["cert.pem"], &[]];
        for lost in lost {
            for done in 0..=3 {
                let folder = tempfile::tempdir().expect("a folder");
                load_or_make(folder.path(), LISTEN).expect("made");
                old(folder.path());
                lost.iter().for_each(|name| fs::remove_file(folder.path().join(name)).expect("remove"));
                let found = Found::read(folder.path()).expect("read");
                let Ok(Next::Make(key)) = found.next(folder.path()) else { panic!("without {lost:?} nothing is made") };
                let made = make(LISTEN.ip(), key).expect("made");
                for (name, content) in found.steps_to(&made).into_iter().take(done) {
                    write(&folder.path().join(name), &content).expect("written");
                }
                fs::write(folder.path().join(format!("{UNFINISHED}a")), "half").expect("write");
                eprintln!("without {lost:?}, killed after {done} files");
                starts(folder.path());
                assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3, "nothing half written is left");
            }
        }
    }

    #[test]
    fn a_key_of_the_operator_is_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        load_or_make(folder.path(), LISTEN).expect("made");
        let theirs = make(LISTEN.ip(), None).expect("a pair of their own");
        // They exchange ours for theirs, and we start in between.
        fs::write(at("key.pem"), &theirs.key).expect("write");
        fs::write(at("key.new"), "the next one").expect("write");
        let refused = |pair: anyhow::Result<Pair>| {
            let error = pair.and_then(|pair| pair.server_config()).expect_err("refused");
            assert!(format!("{error:#}").contains("cert.pem"), "{error:#}");
            assert_eq!(fs::read(at("key.pem")).expect("the key"), theirs.key);
            assert_eq!(fs::read(at("key.new")).expect("the key"), b"the next one");
        };
        refused(load_or_make(folder.path(), LISTEN));
        old(folder.path());
        refused(load_or_make(folder.path(), LISTEN));
        fs::remove_file(at("cert.pem")).expect("remove");
        refused(load_or_make(folder.path(), LISTEN));
        fs::write(at("cert.pem"), &theirs.certificate).expect("write");
        old(folder.path());
        let taken = load_or_make(folder.path(), LISTEN).expect("taken");
        assert_eq!((taken.certificate, taken.key), (theirs.certificate.clone(), theirs.key.clone()));
    }
}
