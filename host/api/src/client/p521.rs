//! ECDSA on P-521 for TLS, which kubectl accepts for clients and servers and ring does not implement
//! (<https://github.com/briansmith/ring/issues/824>).

use std::sync::{Arc, LazyLock};

use p521::SecretKey;
use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::signature::hazmat::PrehashVerifier;
use p521::ecdsa::{Signature, SigningKey, VerifyingKey};
use p521::pkcs8::DecodePrivateKey;
use ring::digest;
use tokio_rustls::rustls::crypto::{CryptoProvider, KeyProvider, WebPkiSupportedAlgorithms, ring as ring_provider};
use tokio_rustls::rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm, alg_id,
};
use tokio_rustls::rustls::sign::{self, Signer};
use tokio_rustls::rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// The size of a P-521 field element, bytes.
const FIELD_BYTES: usize = 66;

/// ring's algorithms and those of P-521.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let ring = ring_provider::default_provider();
        let known = ring.signature_verification_algorithms;
        let all = [known.all, P521_ALGORITHMS].concat();
        let mapping = [known.mapping, &[(SignatureScheme::ECDSA_NISTP521_SHA512, &P521_ALGORITHMS[..1])]].concat();
        // The leak happens once a process.
        let signature_verification_algorithms =
            WebPkiSupportedAlgorithms { all: Vec::leak(all), mapping: Vec::leak(mapping) };
        Arc::new(CryptoProvider { signature_verification_algorithms, key_provider: &Keys, ..ring })
    });
    &PROVIDER
}

/// Handshakes use the first; certificates may be signed with any.
static P521_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    &Algorithm { id: alg_id::ECDSA_SHA512, digest: &digest::SHA512 },
    &Algorithm { id: alg_id::ECDSA_SHA384, digest: &digest::SHA384 },
    &Algorithm { id: alg_id::ECDSA_SHA256, digest: &digest::SHA256 },
];

#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn sign::SigningKey>, Error> {
        if let Some(key) = Key::new(&key) {
            return Ok(Arc::new(key));
        }
        ring_provider::sign::any_supported_type(&key)
    }
}

#[derive(Clone)]
struct Key(SigningKey);

impl Key {
    /// `None` for another kind of key.
    fn new(key: &PrivateKeyDer<'_>) -> Option<Key> {
        let secret = match key {
            PrivateKeyDer::Pkcs8(der) => SecretKey::from_pkcs8_der(der.secret_pkcs8_der()).ok()?,
            PrivateKeyDer::Sec1(der) => SecretKey::from_sec1_der(der.secret_sec1_der()).ok()?,
            _ => return None,
        };
        SigningKey::from_bytes(&secret.to_bytes()).ok().map(Key)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(P-521)")
    }
}

impl sign::SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: Signature = self.0.try_sign(message).map_err(|_| Error::General("signing failed".into()))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP521_SHA512
    }
}

#[derive(Debug)]
struct Algorithm {
    id: AlgorithmIdentifier,
    digest: &'static digest::Algorithm,
}

impl SignatureVerificationAlgorithm for Algorithm {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        let digest = digest::digest(self.digest, message);
        // Padding keeps the number; the crate rejects digests shorter than half a field element.
        let mut padded = [0; FIELD_BYTES];
        padded[FIELD_BYTES - digest.as_ref().len()..].copy_from_slice(digest.as_ref());
        key.verify_prehash(&padded, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.id
    }
}
