//! A certificate and its key.

use std::path::Path;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use rustls::{
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{CERTIFICATE, KEY, files::read};

/// A certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl Pair {
    /// What lies in `folder` as `cert.pem` and `key.pem`.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let file = |name: &str| {
            let path = folder.join(name);
            read(&path)?.with_context(|| format!("{} is missing", path.display()))
        };
        Ok(Self { certificate: file(CERTIFICATE)?, key: file(KEY)? })
    }

    /// What a server presents.
    ///
    /// # Errors
    /// When one of them is not PEM, or they do not belong together.
    pub fn certified_key(&self) -> anyhow::Result<CertifiedKey> {
        let chain = chain(&self.certificate).context("read the certificate: cert.pem must be PEM")?;
        if chain.is_empty() {
            bail!("cert.pem holds no certificate: it must be PEM");
        }
        together(chain, &self.key)
    }

    /// When the certificate ends, if it can be read.
    #[must_use]
    pub fn valid_until(&self) -> Option<DateTime<Utc>> {
        let chain = chain(&self.certificate).ok()?;
        valid_until(&parsed(chain.first()?)?)
    }
}

/// The certificates in a PEM text.
pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

pub(super) fn together(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> anyhow::Result<CertifiedKey> {
    let key = PrivateKeyDer::from_pem_slice(key).context("read the certificate's key: key.pem must be PEM")?;
    let together = CertifiedKey::from_der(chain, key, &ring::default_provider());
    together.context("use the certificate: cert.pem and key.pem must belong together, or be removed together")
}

/// The fields of a certificate, if it is one.
pub(super) fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

/// When a certificate ends.
pub(super) fn valid_until(certificate: &X509Certificate<'_>) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)
}
