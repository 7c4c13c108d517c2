//! The certificate of an entry that nobody gave one: made for this machine at the first start, renewed with its key, and
//! never put in the place of one that is not ours.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use url::Host;

use super::{
    CERTIFICATE, KEY, Pair,
    files::{clear_away, read, write},
    key_pair, of_a_server,
    pair::{chain, together},
};

/// Copies of the certificates that were made here.
const REMEMBERED: &str = "self-signed.pem";

/// The object identifiers of the extensions "key usage" and "extended key usage", as DER writes them
/// (RFC 5280, sections 4.2.1.3 and 4.2.1.12). Some browsers offer no way past a certificate without.
const USAGES: [[u8; 5]; 2] = [[0x06, 0x03, 0x55, 0x1d, 0x0f], [0x06, 0x03, 0x55, 0x1d, 0x25]];

/// A certificate older than this is replaced at the next start.
const RENEW_AFTER: Duration = Duration::from_secs(300 * 24 * 3600);

/// The certificate in `folder`, or a new self-signed one for this machine and `listen`.
///
/// Put `cert.pem` and `key.pem` of your own there and they are taken. Only a certificate that was made
/// here, as `self-signed.pem` remembers, is ever replaced, and a key never is: a new certificate is
/// made with the key that lies there.
///
/// # Errors
/// When a file cannot be read or written, or one of a pair that is not ours is missing.
pub fn load_or_make(folder: &Path, listen: SocketAddr) -> anyhow::Result<Pair> {
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
                let is_due = self.is_ours && self.is_our_key(key) && (self.is_old || pair.certified_key().is_err());
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

/// Takes from others what a copy of the folder may have given them.
fn close(key: &Path) -> anyhow::Result<()> {
    let doing = || format!("run `chmod 0600 {}`: others can read the key", key.display());
    let mode = fs::metadata(key).with_context(doing)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).with_context(doing)
}

fn make(listen: IpAddr, key: Option<Vec<u8>>) -> anyhow::Result<Pair> {
    // No authority: the one certificate that a client is told to trust is the server's own, and some
    // clients refuse an authority's in its place.
    let params = of_a_server(names(listen))?;
    let key = match key {
        Some(pem) => key_pair(pem, KEY)?,
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
    super::is_dns_name(&name).then_some(name)
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

#[cfg(test)]
#[path = "self_signed_tests.rs"]
mod tests;
