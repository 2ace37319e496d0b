//! The key that compiled code is authenticated with (HMAC-SHA256).
//!
//! The host maps compiled code and jumps into it, so a checksum is not enough: whoever can put a file
//! there can compute one. The key comes from the owner's encryption key, if there is one. Else it is a
//! secret of the state directory, made by the first host that uses it:
//!
//! ```text
//! code/key   32 random bytes, mode 0600
//! ```
//!
//! If it is lost, packages are compiled again, and nothing else happens.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};

use crate::disk::check_owner;
use crate::encryption::SealKey;

/// Bytes of a tag.
pub const TAG_LEN: usize = 32;

/// Mode bits that let users read or write who are neither the owner nor in the group.
const OTHERS: u32 = 0o006;

/// Makes and checks tags. Cheap to clone.
#[derive(Clone)]
pub struct CodeKey(Arc<hmac::Key>);

impl CodeKey {
    /// The key of the state directory whose compiled code is in `dir`; made if there is none.
    ///
    /// A key that others than the owner and the group could read or write is replaced.
    pub fn open(dir: &Path, owners: Option<&SealKey>) -> io::Result<CodeKey> {
        if let Some(key) = owners {
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
        let tmp = dir.join("key.tmp");
        let _ = fs::remove_file(&tmp);
        File::options().write(true).create_new(true).mode(0o600).open(&tmp)?.write_all(&secret)?;
        fs::rename(&tmp, &path)?;
        Ok(CodeKey::new(&secret))
    }

    fn new(secret: &[u8; 32]) -> CodeKey {
        CodeKey(Arc::new(hmac::Key::new(HMAC_SHA256, secret)))
    }

    /// A tag for `content`, which counts under `name` only.
    pub fn tag(&self, name: &str, content: &[u8]) -> [u8; TAG_LEN] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&(name.len() as u64).to_le_bytes());
        context.update(name.as_bytes());
        context.update(content);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Whether `tag` was made with this key for this name and content. Takes the same time wherever they differ.
    pub fn verify(&self, name: &str, content: &[u8], tag: &[u8]) -> bool {
        let expected = self.tag(name, content);
        tag.len() == TAG_LEN && expected.iter().zip(tag).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

/// `None` if it is no key, or one that everybody could know.
fn read(path: &Path) -> io::Result<Option<[u8; 32]>> {
    let mut file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let meta = file.metadata()?;
    check_owner(path, &meta)?;
    if !meta.is_file() || meta.mode() & OTHERS != 0 {
        return Ok(None);
    }
    if meta.mode() & 0o077 != 0 {
        // Volumes of Pods are handed to a group as a whole.
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
    fn a_tag_counts_for_its_name_content_and_key_only() {
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
    fn with_an_encryption_key_the_directory_holds_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("owners"), [7; 32]).unwrap();
        let owners = SealKey::read(&dir.path().join("owners")).unwrap();
        let tag = CodeKey::open(dir.path(), Some(&owners)).unwrap().tag("x", b"content");
        assert!(CodeKey::open(dir.path(), Some(&owners)).unwrap().verify("x", b"content", &tag));
        assert!(!dir.path().join("key").exists());
        assert!(!CodeKey::open(dir.path(), None).unwrap().verify("x", b"content", &tag));
    }

    #[test]
    fn a_key_that_is_damaged_or_open_to_everybody_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let open = || CodeKey::open(dir.path(), None).unwrap();
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        let tag = open().tag("x", b"content");
        assert_eq!(mode(), 0o600);
        // As a volume's files are when its group was set.
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
