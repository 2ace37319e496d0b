//! Turns a client certificate and its key from PEM into their form for TLS.

use std::sync::Arc;

use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::p521;

/// Reads a certificate chain and the key of its first certificate. One file may hold both, as the kubelet's does.
///
/// # Errors
/// A part is missing or malformed, or the key does not match the certificate.
pub fn read(certificates: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the certificate is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("there is no certificate".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key cannot be read: {error}"))?;
    let certified = CertifiedKey::from_der(chain, key, p521::provider());
    certified.map(Arc::new).map_err(|error| format!("the certificate or its key cannot be used: {error}"))
}

/// Presents one certificate, or none, to every server that requests one.
#[derive(Debug)]
pub struct Presented(pub Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone().filter(|certified| certified.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}
