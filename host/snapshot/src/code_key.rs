//! The key that authenticates compiled code (HMAC-SHA256).
//!
//! The host maps compiled code and jumps into it. A checksum is not enough: anybody who can plant a file can compute
//! one. The key is derived from the owner's encryption key, if the host has one. Else it is a secret of the state
//! directory, made by the first host that uses the directory:
//!
//! ```text
//! code/key   32 random bytes, mode 0600
//! ```
//!
//! If the key is lost, hosts compile their packages again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};

use crate::disk::{Disk, check_owner};
use crate::encryption::EncryptionKey;

/// Bytes of an HMAC tag.
pub const TAG_LEN: usize = 32;

/// Mode bits: others than the owner and the group may read or write.
const OTHERS: u32 = 0o006;

/// Makes and verifies tags. Cheap to clone.
#[derive(Clone)]
pub struct CodeKey(Arc<hmac::Key>);

impl CodeKey {
    /// The key for compiled code in `dir`. It is derived from `encryption_key`, if given; else read from `dir`, or created
    /// there. A stored key that others than its owner and group could read or write is replaced.
    ///
    /// # Errors
    /// If the stored key belongs to another user, is a link, or cannot be read or written.
    pub fn open(dir: &Path, encryption_key: Option<&EncryptionKey>) -> io::Result<CodeKey> {
        if let Some(key) = encryption_key {
            let derived = key.derive(b"code").ok_or_else(|| io::Error::other("no key can be derived"))?;
            return Ok(CodeKey::new(&derived));
        }
        let path = dir.join("key");
        match read(&path) {
            Ok(Some(secret)) => return Ok(CodeKey::new(&secret)),
            Ok(None) => tracing::warn!(
                path = %path.display(),
                "the key of compiled code was damaged or open to every user; packages are compiled again"
            ),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| io::Error::other("no random numbers"))?;
        Disk::default().replace(&path, &secret)?;
        Ok(CodeKey::new(&secret))
    }

    fn new(secret: &[u8; 32]) -> CodeKey {
        CodeKey(Arc::new(hmac::Key::new(HMAC_SHA256, secret)))
    }

    /// The tag of `content` under `name`: it authenticates both.
    pub fn tag(&self, name: &str, content: &[u8]) -> [u8; TAG_LEN] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&(name.len() as u64).to_le_bytes());
        context.update(name.as_bytes());
        context.update(content);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Whether this key made `tag` for this name and content. The comparison takes constant time.
    pub fn verify(&self, name: &str, content: &[u8], tag: &[u8]) -> bool {
        let expected = self.tag(name, content);
        tag.len() == TAG_LEN && expected.iter().zip(tag).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

/// Reads a stored key. `None` if it is damaged, or others could read or write it.
fn read(path: &Path) -> io::Result<Option<[u8; 32]>> {
    let mut file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let meta = file.metadata()?;
    check_owner(path, &meta)?;
    if !meta.is_file() || meta.mode() & OTHERS != 0 {
        return Ok(None);
    }
    if meta.mode() & 0o077 != 0 {
        // Kubernetes gives a volume's files to a group.
        let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
    }
    let mut secret = Vec::new();
    Read::by_ref(&mut file).take(33).read_to_end(&mut secret)?;
    Ok(secret.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_verifies_only_its_name_content_and_key() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = CodeKey::open(a.path(), None).unwrap();
        let tag = key.tag("x", b"content");
        assert!(key.verify("x", b"content", &tag));
        assert!(CodeKey::open(a.path(), None).unwrap().verify("x", b"content", &tag), "the same key again");
        assert!(!key.verify("y", b"content", &tag));
        assert!(!key.verify("xc", b"ontent", &tag));
        assert!(!key.verify("x", b"content.", &tag));
        assert!(!key.verify("x", b"content", &tag[..31]));
        assert!(!key.verify("x", b"content", &[]));
        assert!(!CodeKey::open(b.path(), None).unwrap().verify("x", b"content", &tag), "another directory's");
    }

    #[test]
    fn with_an_encryption_key_no_key_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("owners"), [7; 32]).unwrap();
        let owners = EncryptionKey::read(&dir.path().join("owners")).unwrap();
        let tag = CodeKey::open(dir.path(), Some(&owners)).unwrap().tag("x", b"content");
        assert!(CodeKey::open(dir.path(), Some(&owners)).unwrap().verify("x", b"content", &tag));
        assert!(!dir.path().join("key").exists());
        assert!(!CodeKey::open(dir.path(), None).unwrap().verify("x", b"content", &tag));
    }

    #[test]
    fn a_damaged_or_world_readable_key_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let open = || CodeKey::open(dir.path(), None).unwrap();
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        let tag = open().tag("x", b"content");
        assert_eq!(mode(), 0o600);
        // As Kubernetes leaves the files of a volume with a group.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        assert!(open().verify("x", b"content", &tag));
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let next = open();
        assert!(!next.verify("x", b"content", &tag));
        assert_eq!(mode(), 0o600);
        for damaged in [&b""[..], &[1; 31], &[1; 33]] {
            let tag = open().tag("x", b"content");
            fs::write(&path, damaged).unwrap();
            assert!(!open().verify("x", b"content", &tag), "{} bytes", damaged.len());
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(CodeKey::open(dir.path(), None).is_err(), "a link is not followed");
    }
}
