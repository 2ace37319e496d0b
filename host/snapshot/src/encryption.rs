//! Encryption of snapshots and journals at rest: AES-256-GCM.
//!
//! Each controller has a key of its own, derived by HKDF-SHA256 from the owner's key and the controller's name. Each
//! page and each header is a block with a random nonce. The encrypted header holds the nonces and tags of the pages.
//!
//! Encryption hides content only: sizes, times, and which pages change stay visible. It does not prevent replay:
//! somebody who can write to the disk can put an older snapshot back as a whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::format::{AeadTag, FormatError};

/// The owner's key, from which all others are derived. Cheap to clone.
#[derive(Clone)]
pub struct EncryptionKey(Arc<[u8; 32]>);

/// Why a file is no encryption key.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum EncryptionKeyError {
    #[error("cannot read the encryption key {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} holds no encryption key\nhelp: it must hold 32 bytes, raw, as 64 hexadecimal digits or in base64: `openssl rand -base64 32` makes one"
    )]
    Malformed { path: PathBuf },
}

impl EncryptionKey {
    /// Reads a key of 32 bytes: raw, as 64 hexadecimal digits, or in base64.
    ///
    /// # Errors
    /// If the file cannot be read or holds no key.
    pub fn read(path: &Path) -> Result<EncryptionKey, EncryptionKeyError> {
        let bytes = fs::read(path).map_err(|source| EncryptionKeyError::Unreadable { path: path.into(), source })?;
        EncryptionKey::parse(&bytes).ok_or_else(|| EncryptionKeyError::Malformed { path: path.into() })
    }

    fn parse(bytes: &[u8]) -> Option<EncryptionKey> {
        let key = |bytes: &[u8]| bytes.try_into().ok().map(|key| EncryptionKey(Arc::new(key)));
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

    /// Derives a key for another purpose than snapshots, named by `what`. `None` if the derivation fails.
    pub(super) fn derive(&self, what: &[u8]) -> Option<[u8; 32]> {
        let mut derived = [0; 32];
        let secret = Salt::new(HKDF_SHA256, b"wasmop 1").extract(&*self.0);
        secret.expand(&[what], &AES_256_GCM).ok()?.fill(&mut derived).ok()?;
        Some(derived)
    }
}

/// Encrypts and decrypts the blocks of one controller, or of another named owner of data.
pub struct Cipher {
    key: LessSafeKey,
    /// Key id: tells a block of another key from a damaged one.
    id: [u8; 4],
    random: SystemRandom,
}

impl Cipher {
    /// The cipher of `controller`. `None` if its key cannot be derived.
    pub fn new(key: &EncryptionKey, controller: &str) -> Option<Cipher> {
        let secret = Salt::new(HKDF_SHA256, b"wasmop snapshot 1").extract(&*key.0);
        let derive = |what: &[u8]| {
            let mut derived = [0; 32];
            secret.expand(&[what, controller.as_bytes()], &AES_256_GCM).ok()?.fill(&mut derived).ok()?;
            Some(derived)
        };
        let (derived, id) = (derive(b"key ")?, derive(b"id ")?);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derived).ok()?);
        Some(Cipher { key, id: [id[0], id[1], id[2], id[3]], random: SystemRandom::new() })
    }

    /// Identifies the derived key, and says nothing about it.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Encrypts `data` in place. The nonce and tag that it returns are needed to decrypt it.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn encrypt(&self, data: &mut [u8]) -> std::io::Result<AeadTag> {
        let failed = |_| std::io::Error::other("encryption failed");
        let mut aead = AeadTag::default();
        self.random.fill(&mut aead.nonce).map_err(failed)?;
        let nonce = Nonce::assume_unique_for_key(aead.nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), data).map_err(failed)?;
        aead.tag.copy_from_slice(tag.as_ref());
        Ok(aead)
    }

    /// Decrypts `data` in place.
    ///
    /// # Errors
    /// [`FormatError::DataChecksum`] if the data, nonce, tag or key is not the one that [`Cipher::encrypt`] used.
    pub fn decrypt(&self, data: &mut Vec<u8>, aead: &AeadTag) -> Result<(), FormatError> {
        let len = data.len();
        data.extend_from_slice(&aead.tag);
        let nonce = Nonce::assume_unique_for_key(aead.nonce);
        let opened = self.key.open_in_place(nonce, Aad::empty(), data).is_ok();
        data.truncate(len);
        if opened { Ok(()) } else { Err(FormatError::DataChecksum) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_raw_hexadecimal_or_base64() {
        let raw = [0xabu8; 32];
        let hex = "ab".repeat(32) + "\n";
        let base64 = base64::engine::general_purpose::STANDARD.encode(raw) + "\n";
        for text in [&raw[..], hex.as_bytes(), base64.as_bytes()] {
            assert_eq!(*EncryptionKey::parse(text).unwrap().0, raw);
        }
        for text in ["", "short", &"ab".repeat(31), &"zz".repeat(32), "YWJj"] {
            assert!(EncryptionKey::parse(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_block_decrypts_only_with_its_own_key_and_tag() {
        let key = EncryptionKey::parse(&[1; 32]).unwrap();
        let (a, b) = (Cipher::new(&key, "a").unwrap(), Cipher::new(&key, "b").unwrap());
        assert_ne!(a.id(), b.id());
        let plain = vec![5; 4096];
        let mut data = plain.clone();
        let aead = a.encrypt(&mut data).unwrap();
        assert_ne!(data, plain);
        let mut again = plain.clone();
        assert_ne!(a.encrypt(&mut again).unwrap().nonce, aead.nonce);
        assert!(b.decrypt(&mut data.clone(), &aead).is_err());
        let mut changed = data.clone();
        changed[100] ^= 1;
        assert!(a.decrypt(&mut changed, &aead).is_err());
        a.decrypt(&mut data, &aead).unwrap();
        assert_eq!(data, plain);
    }
}
