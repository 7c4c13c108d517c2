use std::{
    fs,
    io::Write,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use chrono::{Datelike, TimeDelta, Utc};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use url::Host;

const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
/// Copies of the certificates that were made here.
const REMEMBERED: &str = "self-signed.pem";

/// The object identifiers of the extensions "key usage" and "extended key usage", as DER writes them
/// (RFC 5280, sections 4.2.1.3 and 4.2.1.12). Some browsers offer no way past a certificate without.
const USAGES: [[u8; 5]; 2] = [[0x06, 0x03, 0x55, 0x1d, 0x0f], [0x06, 0x03, 0x55, 0x1d, 0x25]];

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
/// When a file cannot be read or written, or one of a pair that is not ours is missing.
pub(super) fn load_or_make(folder: &Path, listen: SocketAddr) -> anyhow::Result<Pair> {
    let found = Found::read(folder, listen.ip())?;
    if found.key.as_ref().is_some_and(|key| found.is_our_key(key)) {
        close(&folder.join(KEY))?;
    }
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
    /// Whether the certificate is due to be replaced, if it is ours: for its age, because an older
    /// program made it, or because it does not name the address that is listened on.
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
    fn read(folder: &Path, listen: IpAddr) -> anyhow::Result<Self> {
        let path = folder.join(CERTIFICATE);
        let certificate = read(&path)?;
        let remembered = read(&folder.join(REMEMBERED))?.map(|pem| chain(&pem).unwrap_or_default()).unwrap_or_default();
        let ours = |pem: &Vec<u8>| matches!(chain(pem).as_deref(), Ok([only]) if remembered.contains(only));
        let is_ours = certificate.as_ref().is_some_and(ours);
        let lacks = |pem: &Vec<u8>| matches!(chain(pem).as_deref(), Ok([only]) if !is_complete(only, listen));
        let is_old = age(&path).is_none_or(|age| age > RENEW_AFTER) || certificate.as_ref().is_some_and(lacks);
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

/// Takes from others what a copy of the folder may have given them.
fn close(key: &Path) -> anyhow::Result<()> {
    let doing = || format!("run `chmod 0600 {}`: others can read the key", key.display());
    let mode = fs::metadata(key).with_context(doing)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).with_context(doing)
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
    let mut params = CertificateParams::new(names(listen)).context("name the certificate")?;
    // No authority: the one certificate that a client is told to trust is the server's own, and some
    // clients refuse an authority's in its place.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
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

/// The names and addresses by which this machine is asked.
fn names(listen: IpAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if is_named_apart(listen) {
        names.push(listen.to_string());
    }
    names.extend(host_name(rustix::system::uname().nodename().to_bytes()).filter(|name| !names.contains(name)));
    names
}

/// Whether the address that is listened on needs an entry beside those of every certificate.
fn is_named_apart(listen: IpAddr) -> bool {
    !listen.is_unspecified() && !["127.0.0.1", "::1"].contains(&listen.to_string().as_str())
}

/// What the machine calls itself, where a certificate can hold that: an address, or labels of ASCII
/// letters, digits and hyphens, into which IDNA turns other letters.
fn host_name(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?.trim_end_matches('.');
    if let Ok(address) = name.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let Ok(Host::Domain(name)) = Host::parse(name) else { return None };
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then_some(name)
}

/// Whether a certificate that was made here has all that one made now would have.
fn is_complete(certificate: &[u8], listen: IpAddr) -> bool {
    let has = |part: &[u8]| certificate.windows(part.len()).any(|window| window == part);
    // An address among the subject's alternative names: context tag 7, the length, the octets.
    let octets = match listen {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let entry = [&[0x87, u8::try_from(octets.len()).unwrap_or_default()], &octets[..]].concat();
    USAGES.iter().all(|usage| has(usage)) && (!is_named_apart(listen) || has(&entry))
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
        // A new name, for a file that only we can read.
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
#[path = "certificate_tests.rs"]
mod tests;
