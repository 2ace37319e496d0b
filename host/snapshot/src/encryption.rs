//! Encryption of snapshots, for disks that may fall into other hands.
//!
//! AES-256-GCM with a key for each controller, derived (HKDF-SHA256) from the owner's key and the
//! controller's name. Each page and each header has a random nonce; nonces and tags of the pages are in
//! the encrypted header. What it does not hide: sizes, times, and which pages change. Whoever can write
//! the disk can put back an older snapshot as a whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::format::{FormatError, Seal};

/// The owner's key.
#[derive(Clone)]
pub struct SealKey(Arc<[u8; 32]>);

#[derive(Debug, thiserror::Error)]
pub enum SealKeyError {
    #[error("cannot read the encryption key {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} holds no encryption key\nhelp: it must hold 32 bytes, raw, as 64 hexadecimal digits or in base64: `openssl rand -base64 32` makes one"
    )]
    Malformed { path: PathBuf },
}

impl SealKey {
    /// 32 bytes: raw, hexadecimal or base64.
    pub fn read(path: &Path) -> Result<SealKey, SealKeyError> {
        let bytes = fs::read(path).map_err(|source| SealKeyError::Unreadable { path: path.into(), source })?;
        SealKey::parse(&bytes).ok_or_else(|| SealKeyError::Malformed { path: path.into() })
    }

    fn parse(bytes: &[u8]) -> Option<SealKey> {
        let key = |bytes: &[u8]| bytes.try_into().ok().map(|key| SealKey(Arc::new(key)));
        if bytes.len() == 32 {
            return key(bytes);
        }
        let text = std::str::from_utf8(bytes).ok()?.trim();
        if text.len() == 64 {
            let digits = (0..32).map(|i| u8::from_str_radix(text.get(i * 2..i * 2 + 2)?, 16).ok());
            return key(&digits.collect::<Option<Vec<u8>>>()?);
        }
        key(&base64::engine::general_purpose::STANDARD.decode(text).ok()?)
    }
}

impl SealKey {
    /// A key for something else than snapshots; `None` if none can be derived.
    pub(super) fn derive(&self, what: &[u8]) -> Option<[u8; 32]> {
        let mut derived = [0; 32];
        let secret = Salt::new(HKDF_SHA256, b"wasmop 1").extract(&*self.0);
        secret.expand(&[what], &AES_256_GCM).ok()?.fill(&mut derived).ok()?;
        Some(derived)
    }
}

/// Encrypts and opens what belongs to one controller.
pub struct Sealer {
    key: LessSafeKey,
    /// Tells snapshots of another key from damaged ones.
    id: [u8; 4],
    random: SystemRandom,
}

impl Sealer {
    pub fn new(key: &SealKey, controller: &str) -> Option<Sealer> {
        let secret = Salt::new(HKDF_SHA256, b"wasmop snapshot 1").extract(&*key.0);
        let derive = |what: &[u8]| {
            let mut derived = [0; 32];
            secret.expand(&[what, controller.as_bytes()], &AES_256_GCM).ok()?.fill(&mut derived).ok()?;
            Some(derived)
        };
        let (derived, id) = (derive(b"key ")?, derive(b"id ")?);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derived).ok()?);
        Some(Sealer { key, id: [id[0], id[1], id[2], id[3]], random: SystemRandom::new() })
    }

    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Encrypts in place.
    pub fn seal(&self, data: &mut [u8]) -> std::io::Result<Seal> {
        let failed = |_| std::io::Error::other("encryption failed");
        let mut seal = Seal::default();
        self.random.fill(&mut seal.nonce).map_err(failed)?;
        let nonce = Nonce::assume_unique_for_key(seal.nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), data).map_err(failed)?;
        seal.tag.copy_from_slice(tag.as_ref());
        Ok(seal)
    }

    /// Decrypts in place; an error if it is not what was sealed.
    pub fn open(&self, data: &mut Vec<u8>, seal: &Seal) -> Result<(), FormatError> {
        let len = data.len();
        data.extend_from_slice(&seal.tag);
        let nonce = Nonce::assume_unique_for_key(seal.nonce);
        let opened = self.key.open_in_place(nonce, Aad::empty(), data).is_ok();
        data.truncate(len);
        if opened { Ok(()) } else { Err(FormatError::DataChecksum) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_raw_in_hexadecimal_or_in_base64() {
        let raw = [0xabu8; 32];
        let hex = "ab".repeat(32) + "\n";
        let base64 = base64::engine::general_purpose::STANDARD.encode(raw) + "\n";
        for text in [&raw[..], hex.as_bytes(), base64.as_bytes()] {
            assert_eq!(*SealKey::parse(text).unwrap().0, raw);
        }
        for text in ["", "short", &"ab".repeat(31), &"zz".repeat(32), "YWJj"] {
            assert!(SealKey::parse(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn what_is_sealed_opens_with_its_own_key_and_seal_only() {
        let key = SealKey::parse(&[1; 32]).unwrap();
        let (a, b) = (Sealer::new(&key, "a").unwrap(), Sealer::new(&key, "b").unwrap());
        assert_ne!(a.id(), b.id());
        let plain = vec![5; 4096];
        let mut data = plain.clone();
        let seal = a.seal(&mut data).unwrap();
        assert_ne!(data, plain);
        let mut again = plain.clone();
        assert_ne!(a.seal(&mut again).unwrap().nonce, seal.nonce);
        assert!(b.open(&mut data.clone(), &seal).is_err());
        let mut changed = data.clone();
        changed[100] ^= 1;
        assert!(a.open(&mut changed, &seal).is_err());
        a.open(&mut data, &seal).unwrap();
        assert_eq!(data, plain);
    }
}
