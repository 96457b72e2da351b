//! The files that say who a node is on NATS and whom it trusts: what is wrong with them, in words.
//!
//! The client library reads them when it connects, and without end if they are bad. So they are read
//! once before, and nothing is kept. No words hold anything of their content.

use std::fs;
use std::path::Path;

use async_nats::ConnectOptions;
use async_nats::rustls::pki_types::pem::PemObject as _;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::{ClientConfig, RootCertStore};

/// A bundle of all roots of the web has a quarter of this.
const BYTES_MAX: u64 = 1 << 20;

/// The file must hold credentials.
pub(super) fn credentials_fault(path: &Path) -> Option<String> {
    let credentials = read(path).and_then(|content| {
        let text = String::from_utf8(content).map_err(|_| in_words(path, "is no text"))?;
        ConnectOptions::new().credentials(&text).map_err(|_| in_words(path, "holds no credentials"))
    });
    credentials.err()
}

/// The file must hold certificates.
pub(super) fn certificates_fault(path: &Path) -> Option<String> {
    certificates(path).err()
}

/// The file must hold a private key.
pub(super) fn key_fault(path: &Path) -> Option<String> {
    key(path).err()
}

/// The key must be that of the certificate.
pub(super) fn pair_fault(cert_path: &Path, key_path: &Path) -> Option<String> {
    let (certificates, key) = (certificates(cert_path).ok()?, key(key_path).ok()?);
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
    let why = config.with_client_auth_cert(certificates, key).err()?;
    let words = format!("does not fit to {}: {why}", cert_path.display());
    Some(in_words(key_path, &words))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let content = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| in_words(path, "holds no certificate in PEM"))
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let content = read(path)?;
    PrivateKeyDer::from_pem_slice(&content)
        .map_err(|_| in_words(path, "holds no private key in PEM"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unread =
        |why: &dyn ToString| in_words(path, &format!("cannot be read: {}", why.to_string()));
    let meta = fs::metadata(path).map_err(|why| unread(&why))?;
    // A pipe would wait for its writer.
    if !meta.is_file() {
        return Err(unread(&"it is no regular file"));
    }
    if meta.len() > BYTES_MAX {
        return Err(unread(&format!("it has more than {BYTES_MAX} bytes")));
    }
    fs::read(path).map_err(|why| unread(&why))
}

fn in_words(path: &Path, what: &str) -> String {
    format!("{} {what}", path.display())
}
