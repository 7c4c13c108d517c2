//! An authority of one's own, and the certificate that it signs for a server: `ca.pem` and `ca-key.pem`, `cert.pem` and
//! `key.pem` in one folder. Clients trust the authority once; the server's certificate is renewed under it.

use std::{collections::BTreeSet, fmt, fs, net::IpAddr, path::Path, str::FromStr};

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::{
    CERTIFICATE, KEY, Pair, SERVER_VALID,
    files::{clear_away, read, write},
    key_pair, of_a_server,
    pair::{chain, parsed, valid_until},
    valid_from_today,
};

const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca-key.pem";
const LOCK: &str = ".lock";

/// How long an authority is valid. People trust it by hand, so it lives for long.
const AUTHORITY_VALID: TimeDelta = TimeDelta::days(3650);
/// A server's certificate is renewed when it has less than this left: a third of its life.
const RENEW_BEFORE: TimeDelta = TimeDelta::days(132);

/// A name that a server is asked by: an address, or a DNS name, whose first label may be `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerName(String);

/// Why something cannot stand in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAServerName;

/// What was done about the certificates, and what there is now.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the authority was made just now, so that it has to be trusted.
    pub is_new_authority: bool,
    /// Why the server's certificate was made anew; `None` when it is as it was.
    pub renewed: Option<Reason>,
    /// When the server's certificate ends.
    pub valid_until: DateTime<Utc>,
}

/// Why a server's certificate is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is none, or what lies there is no certificate with its key.
    Missing,
    /// Another authority signed it.
    OtherAuthority,
    /// It names other names than are wanted.
    OtherNames,
    /// A third of its life or less is left.
    NearItsEnd,
}

impl FromStr for ServerName {
    type Err = NotAServerName;

    fn from_str(text: &str) -> Result<Self, NotAServerName> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        let below = text.strip_prefix("*.").unwrap_or(text);
        // What ends in a number is an address to every client, and here it is none.
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = super::is_dns_name(below) && !below.rsplit('.').next().is_none_or(is_number);
        if is_name && text.len() <= 253 { Ok(Self(text.to_ascii_lowercase())) } else { Err(NotAServerName) }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NotAServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("give an IP address, or a DNS name such as air.example.org or *.example.org")
    }
}

impl std::error::Error for NotAServerName {}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there was none",
            Self::OtherAuthority => "another authority had signed it",
            Self::OtherNames => "its names have changed",
            Self::NearItsEnd => "it was near its end",
        })
    }
}

/// Makes what is missing in `folder`: the authority, and a certificate for `names` that it signs. Renews the latter,
/// with a new key, when it is due at `now`. Otherwise it changes nothing.
///
/// # Errors
/// When a file cannot be read or written, or the authority cannot be used any more.
pub fn bring_up_to_date(folder: &Path, names: &[ServerName], now: DateTime<Utc>) -> anyhow::Result<Outcome> {
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    // Of two runs at once each would write half of what the other does.
    let lock = fs::File::create(folder.join(LOCK)).and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.with_context(|| format!("lock {}", folder.join(LOCK).display()))?;
    clear_away(folder)?;
    let (authority, is_new_authority) = match Authority::read(folder)? {
        Some(authority) => (authority, false),
        None => (Authority::make(folder)?, true),
    };
    let names: BTreeSet<_> = names.iter().cloned().collect();
    let found = found(folder)?;
    let reason = reason(found.as_ref(), &authority, &names, now)?;
    let pair = match (reason, found) {
        (None, Some(pair)) => pair,
        _ => {
            let pair = authority.sign(&names, now)?;
            // A kill between the two leaves a pair that does not belong together, which the next run replaces.
            write(&folder.join(KEY), &pair.key)?;
            write(&folder.join(CERTIFICATE), &pair.certificate)?;
            pair
        }
    };
    let valid_until = pair.valid_until().context("read the certificate that was made")?;
    Ok(Outcome { is_new_authority, renewed: reason, valid_until })
}

fn found(folder: &Path) -> anyhow::Result<Option<Pair>> {
    let (certificate, key) = (read(&folder.join(CERTIFICATE))?, read(&folder.join(KEY))?);
    Ok(certificate.zip(key).map(|(certificate, key)| Pair { certificate, key }))
}

/// Why a new certificate is needed, if it is.
fn reason(
    found: Option<&Pair>,
    authority: &Authority,
    names: &BTreeSet<ServerName>,
    now: DateTime<Utc>,
) -> anyhow::Result<Option<Reason>> {
    let Some(chain) = found.filter(|pair| pair.certified_key().is_ok()).and_then(|pair| chain(&pair.certificate).ok())
    else {
        return Ok(Some(Reason::Missing));
    };
    let Some(certificate) = chain.first().and_then(parsed) else { return Ok(Some(Reason::Missing)) };
    let authority = authority.parsed()?;
    // An authority that was made anew with a kept key has another name, by which clients look for it.
    if certificate.issuer() != authority.subject()
        || certificate.verify_signature(Some(authority.public_key())).is_err()
    {
        return Ok(Some(Reason::OtherAuthority));
    }
    if names_in(&certificate) != *names {
        return Ok(Some(Reason::OtherNames));
    }
    let is_near = valid_until(&certificate).is_none_or(|end| end - now < RENEW_BEFORE);
    Ok(is_near.then_some(Reason::NearItsEnd))
}

fn names_in(certificate: &X509Certificate<'_>) -> BTreeSet<ServerName> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    let address = |octets: &[u8]| {
        let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from).ok();
        v4.or_else(|| <[u8; 16]>::try_from(octets).map(IpAddr::from).ok())
    };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
        _ => None,
    });
    names.map(ServerName).collect()
}

/// An authority: its certificate and its key.
struct Authority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        match (read(&folder.join(AUTHORITY))?, read(&folder.join(AUTHORITY_KEY))?) {
            (Some(pem), Some(key)) => {
                let chain = chain(&pem).context("read ca.pem: it must be PEM")?;
                let certificate = chain.into_iter().next().context("read ca.pem: it holds no certificate")?;
                let authority = Self { certificate, key: key_pair(key, AUTHORITY_KEY)? };
                if authority.parsed()?.public_key().subject_public_key.data.as_ref() != authority.key.public_key_raw() {
                    bail!("ca-key.pem is not the key of ca.pem: put back the one that is, or remove both");
                }
                Ok(Some(authority))
            }
            // A key alone is what a kill left, or what somebody kept: the authority is made with it.
            (None, _) => Ok(None),
            (Some(_), None) => {
                let (key, authority) = (folder.join(AUTHORITY_KEY), folder.join(AUTHORITY));
                let (key, authority) = (key.display(), authority.display());
                bail!("{key} is missing beside {authority}: put it back, or remove {authority} for a new authority")
            }
        }
    }

    fn make(folder: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_from_today(&mut params, AUTHORITY_VALID);
        params.distinguished_name = DistinguishedName::new();
        // Of two authorities with one name, a client may try the wrong one.
        let name = format!("Flightbell authority {:08x}", rand::random::<u32>());
        params.distinguished_name.push(DnType::CommonName, name);
        let key = match read(&folder.join(AUTHORITY_KEY))? {
            Some(pem) => key_pair(pem, AUTHORITY_KEY)?,
            None => KeyPair::generate().context("make the authority's key")?,
        };
        let certificate = params.self_signed(&key).context("make the authority")?;
        // In this order, since a certificate without its key would stop the next run.
        write(&folder.join(AUTHORITY_KEY), key.serialize_pem().as_bytes())?;
        write(&folder.join(AUTHORITY), certificate.pem().as_bytes())?;
        Ok(Self { certificate: certificate.der().clone(), key })
    }

    fn parsed(&self) -> anyhow::Result<X509Certificate<'_>> {
        parsed(&self.certificate).context("read ca.pem: it holds no certificate")
    }

    /// A certificate for `names`, with a key of its own.
    fn sign(&self, names: &BTreeSet<ServerName>, now: DateTime<Utc>) -> anyhow::Result<Pair> {
        let end = valid_until(&self.parsed()?).context("read the end of ca.pem")?;
        if end - now < SERVER_VALID {
            bail!(
                "the authority in ca.pem ends on {}, before a certificate that it would sign now: remove ca.pem and \
                 ca-key.pem for a new one, and let clients trust that",
                end.format("%Y-%m-%d")
            );
        }
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).context("read ca.pem")?;
        let mut params = of_a_server(names.iter().map(ToString::to_string).collect())?;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("make a key")?;
        let certificate = params.signed_by(&key, &issuer).context("sign the certificate")?;
        Ok(Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(names: &[&str]) -> Vec<ServerName> {
        names.iter().map(|name| name.parse().expect("a name")).collect()
    }

    fn run(folder: &Path, wanted: &[&str], now: DateTime<Utc>) -> anyhow::Result<Outcome> {
        bring_up_to_date(folder, &names(wanted), now)
    }

    fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let entry = |name: &str| (name.to_owned(), fs::read(folder.join(name)).expect("a file"));
        [AUTHORITY, AUTHORITY_KEY, CERTIFICATE, KEY].map(entry).to_vec()
    }

    #[test]
    fn a_second_run_changes_nothing_and_keys_are_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = run(folder.path(), &["localhost", "127.0.0.1", "::1"], Utc::now()).expect("made");
        assert_eq!((first.is_new_authority, first.renewed), (true, Some(Reason::Missing)));
        let before = content(folder.path());
        let second = run(folder.path(), &["::1", "127.0.0.1", "LOCALHOST"], Utc::now()).expect("read");
        assert_eq!((second.is_new_authority, second.renewed), (false, None));
        assert_eq!(content(folder.path()), before);
        for name in [AUTHORITY_KEY, KEY] {
            let mode = fs::metadata(folder.path().join(name)).expect("a file").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left_or_its_names_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = run(folder.path(), &["localhost"], Utc::now()).expect("made");
        let before = content(folder.path());
        let just_before = made.valid_until - RENEW_BEFORE - TimeDelta::hours(1);
        assert_eq!(run(folder.path(), &["localhost"], just_before).expect("kept").renewed, None);
        let due = run(folder.path(), &["localhost"], just_before + TimeDelta::hours(2)).expect("renewed");
        assert_eq!(due.renewed, Some(Reason::NearItsEnd));
        let after = content(folder.path());
        assert_eq!(before[..2], after[..2], "the authority stays");
        assert!(before[2] != after[2] && before[3] != after[3], "certificate and key are new");
        let other = run(folder.path(), &["localhost", "*.example.org"], Utc::now()).expect("renewed");
        assert_eq!(other.renewed, Some(Reason::OtherNames));
    }

    #[test]
    fn a_run_after_a_kill_between_any_two_files_ends_with_a_whole_set() {
        let whole = tempfile::tempdir().expect("a folder");
        run(whole.path(), &["localhost"], Utc::now()).expect("made");
        let written = content(whole.path());
        let in_order = [1, 0, 3, 2].map(|index: usize| written[index].clone());
        for done in 0..=4 {
            let folder = tempfile::tempdir().expect("a folder");
            for (name, content) in in_order.iter().take(done) {
                fs::write(folder.path().join(name), content).expect("write");
            }
            run(folder.path(), &["localhost"], Utc::now()).expect("made whole");
            let again = run(folder.path(), &["localhost"], Utc::now()).expect("read");
            assert_eq!(again.renewed, None, "killed after {done} files");
            let key = &content(folder.path())[1];
            assert!(done < 1 || *key == written[1], "the authority's key is never overwritten");
        }
    }

    #[test]
    fn what_another_authority_signed_or_does_not_belong_together_is_replaced() {
        let (ours, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        for folder in [&ours, &theirs] {
            run(folder.path(), &["localhost"], Utc::now()).expect("made");
        }
        let take = |name: &str| fs::copy(theirs.path().join(name), ours.path().join(name)).expect("copied");
        take(KEY);
        assert_eq!(run(ours.path(), &["localhost"], Utc::now()).expect("renewed").renewed, Some(Reason::Missing));
        take(KEY);
        take(CERTIFICATE);
        let renewed = run(ours.path(), &["localhost"], Utc::now()).expect("renewed").renewed;
        assert_eq!(renewed, Some(Reason::OtherAuthority));
        fs::remove_file(ours.path().join(AUTHORITY_KEY)).expect("removed");
        let error = run(ours.path(), &["localhost"], Utc::now()).expect_err("refused");
        assert!(error.to_string().contains("ca-key.pem is missing"), "{error}");
    }

    #[test]
    fn an_authority_that_is_made_anew_signs_anew_and_a_key_of_another_is_refused() {
        let (ours, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        for folder in [&ours, &theirs] {
            run(folder.path(), &["localhost"], Utc::now()).expect("made");
        }
        fs::remove_file(ours.path().join(AUTHORITY)).expect("removed");
        let anew = run(ours.path(), &["localhost"], Utc::now()).expect("made");
        assert_eq!((anew.is_new_authority, anew.renewed), (true, Some(Reason::OtherAuthority)));
        assert_eq!(run(ours.path(), &["localhost"], Utc::now()).expect("read").renewed, None);
        fs::copy(theirs.path().join(AUTHORITY_KEY), ours.path().join(AUTHORITY_KEY)).expect("copied");
        let error = run(ours.path(), &["localhost"], Utc::now()).expect_err("refused").to_string();
        assert!(error.contains("ca-key.pem is not the key of ca.pem"), "{error}");
    }

    #[test]
    fn an_authority_near_its_end_signs_nothing_more_and_says_how_to_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        run(folder.path(), &["localhost"], Utc::now()).expect("made");
        let error = run(folder.path(), &["localhost"], Utc::now() + AUTHORITY_VALID - TimeDelta::days(30));
        let error = error.expect_err("refused").to_string();
        assert!(error.contains("remove ca.pem and ca-key.pem"), "{error}");
    }

    #[test]
    fn a_client_that_trusts_the_authority_accepts_the_server_by_each_of_its_names_only() {
        use rustls::{
            RootCertStore,
            client::{WebPkiServerVerifier, danger::ServerCertVerifier},
            pki_types::UnixTime,
        };

        runtime::choose_tls();
        let folder = tempfile::tempdir().expect("a folder");
        run(folder.path(), &["localhost", "10.96.0.7", "*.example.org"], Utc::now()).expect("made");
        let mut roots = RootCertStore::empty();
        let authority = fs::read(folder.path().join(AUTHORITY)).expect("the authority");
        for certificate in chain(&authority).expect("PEM") {
            roots.add(certificate).expect("an authority");
        }
        let verifier = WebPkiServerVerifier::builder(roots.into()).build().expect("a verifier");
        let pair = Pair::read(folder.path()).expect("a pair");
        let server = chain(&pair.certificate).expect("PEM");
        let is_accepted = |name: &'static str| {
            let name = name.try_into().expect("a name");
            verifier.verify_server_cert(&server[0], &[], &name, &[], UnixTime::now()).is_ok()
        };
        assert!(is_accepted("localhost") && is_accepted("10.96.0.7") && is_accepted("air.example.org"));
        assert!(!is_accepted("example.net") && !is_accepted("10.96.0.8"));
    }

    #[test]
    fn only_what_a_certificate_can_hold_is_a_name() {
        for name in ["", "a b", "-a", "a..b", "http://a", "a:443", "*", "a.*.b", "1.2.3", "256.1.1.1", "a_b"] {
            assert!(name.parse::<ServerName>().is_err(), "{name:?}");
        }
        for (name, taken) in [("Air.Example.ORG", "air.example.org"), ("2001:DB8::7", "2001:db8::7"), ("a", "a")] {
            assert_eq!(name.parse::<ServerName>().expect(name).to_string(), taken);
        }
    }
}
