//! A server certificate for `localhost`, signed by the test's own authority.

use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The identity of a TLS server, and the authority that signed it.
pub struct TlsIdentity {
    /// The certificate of the authority in PEM.
    pub authority: String,
    pub acceptor: TlsAcceptor,
}

impl TlsIdentity {
    pub fn new() -> Result<TlsIdentity> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &authority)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
        Ok(TlsIdentity { authority: authority.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}
