//! An authority that signs certificates.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority of a test's own, whose certificate lies in a file.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
    _folder: TempDir,
}

impl Authority {
    /// One that no client trusts yet.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // A certificate of the same name as its authority's would pass for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, "an authority for tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("authority.pem");
        std::fs::write(&file, issuer.pem()).expect("a file");
        Self { issuer, file, _folder: folder }
    }

    /// Its own certificate.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A new key and its certificate for `name`, in one text.
    pub(crate) fn keystore_of(&self, name: &str) -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        format!("{}{}{}", key.serialize_pem(), certificate.pem(), self.issuer.pem())
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
