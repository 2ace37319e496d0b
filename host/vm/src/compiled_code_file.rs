//! Compiled code on disk: writes it, authenticates it, and maps it executable.
//!
//! ```text
//! code/DIGEST-ENGINE.cwasm   native code, as wasmtime writes it
//! code/DIGEST-ENGINE.hmac    its tag over name and content (`wasmop_snapshot::code_key`)
//! ```
//!
//! The file is a cache. If it is missing, damaged, of another key or of another user, the host compiles again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use wasmop_snapshot::code_key::CodeKey;
use wasmop_snapshot::disk::{Disk, check_owner};
use wasmtime::component::Component;

use crate::engine::Engine;

/// The file of one package's code, compiled for one engine.
pub(crate) struct CodeFile {
    path: PathBuf,
    key: CodeKey,
}

/// Why compiled code cannot be written or loaded.
#[derive(Debug, thiserror::Error)]
pub enum CodeFileError {
    /// The disk failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The system denies executable memory. The file itself is whole, since it was just written.
    #[error(
        "the compiled code cannot be made executable: {0}\nhelp: the system denies this process executable memory; allow it (of systemd, `MemoryDenyWriteExecute=no`)"
    )]
    NotExecutable(String),
}

impl CodeFile {
    /// `key` authenticates the file.
    pub fn new(path: PathBuf, key: CodeKey) -> CodeFile {
        CodeFile { path, key }
    }

    /// Path of the code.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name that the tag covers besides the content.
    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn tag_path(&self) -> PathBuf {
        self.path.with_extension("hmac")
    }

    /// Writes `code`, which `engine` has just compiled, and loads it.
    ///
    /// # Errors
    /// See [`CodeFileError`].
    pub fn write(&self, engine: &Engine, code: &[u8]) -> Result<Component, CodeFileError> {
        let disk = Disk::default();
        disk.replace(&self.tag_path(), &self.key.tag(&self.name(), code))?;
        disk.replace(&self.path, code)?;
        // The checksum of an earlier version.
        let _ = fs::remove_file(self.path.with_extension("xxh3"));
        let file = self.open()?;
        self.load_from(engine, &file, is_noexec(&file)).map_err(|e| CodeFileError::NotExecutable(format!("{e:#}")))
    }

    /// Loads the code. `None` if there is no authentic code. `checked`: this process has authenticated the file before.
    pub fn load(&self, engine: &Engine, checked: bool) -> Option<Component> {
        let unusable = |reason: &dyn std::fmt::Display| {
            tracing::warn!(path = %self.path.display(), %reason, "compiled code unusable; compiling again");
        };
        let file = match self.open() {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                unusable(&error);
                return None;
            }
        };
        if !checked && !self.is_authentic(&file).unwrap_or(false) {
            unusable(&"it is damaged, or was not written by a host on this state directory");
            return None;
        }
        match self.load_from(engine, &file, is_noexec(&file)) {
            Ok(component) => Some(component),
            Err(error) => {
                unusable(&format!("{error:#}"));
                None
            }
        }
    }

    /// Opens the file, if it belongs to this user: nobody else can have changed it.
    fn open(&self) -> io::Result<File> {
        let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(&self.path)?;
        check_owner(&self.path, &file.metadata()?)?;
        Ok(file)
    }

    fn is_authentic(&self, file: &File) -> io::Result<bool> {
        let tag = fs::read(self.tag_path())?;
        Ok(self.key.verify(&self.name(), &content(file)?, &tag))
    }

    /// Loads the code. `in_memory`: from a copy in anonymous memory, where the file cannot be mapped executable.
    fn load_from(&self, engine: &Engine, file: &File, in_memory: bool) -> wasmtime::Result<Component> {
        // SAFETY: `code` authenticates: a host with this engine has compiled it (the name holds the engine's fingerprint),
        // and this process has verified the tag or written the file. wasmtime checks its own version on top.
        #[allow(unsafe_code)]
        let deserialize = |code: Vec<u8>| unsafe { Component::deserialize(engine.wasmtime(), code) };
        // SAFETY: as above. The descriptor maps the very file that was verified, which only this user can change.
        #[allow(unsafe_code)]
        let map = |path: String| unsafe { Component::deserialize_file(engine.wasmtime(), path) };
        if in_memory { deserialize(content(file)?) } else { map(format!("/proc/self/fd/{}", file.as_raw_fd())) }
    }
}

/// The whole content of a file.
fn content(file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut file: &File = file;
    io::Seek::rewind(&mut file)?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Whether the file system has the mount option `noexec`, so that its files cannot be mapped executable.
fn is_noexec(file: &File) -> bool {
    rustix::fs::fstatvfs(file).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &str = r#"(component (core module (func (export "f"))))"#;

    fn compiled() -> (Engine, Vec<u8>) {
        let engine = Engine::for_one_run().unwrap();
        let code = engine.wasmtime().precompile_component(&wat::parse_str(COMPONENT).unwrap()).unwrap();
        (engine, code)
    }

    #[test]
    fn code_with_another_key_name_or_content_is_not_loaded() {
        let (engine, code) = compiled();
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = |dir: &tempfile::TempDir, name: &str| {
            CodeFile::new(dir.path().join(name), CodeKey::open(dir.path(), None).unwrap())
        };
        let own = file(&dir, "a.cwasm");
        assert!(own.load(&engine, false).is_none(), "nothing there");
        own.write(&engine, &code).unwrap();
        assert!(own.load(&engine, false).is_some());
        let copy = |to: &CodeFile| {
            fs::copy(own.path(), to.path()).unwrap();
            fs::copy(own.tag_path(), to.tag_path()).unwrap();
        };
        let (renamed, foreign) = (file(&dir, "b.cwasm"), file(&other, "a.cwasm"));
        copy(&renamed);
        copy(&foreign);
        assert!(renamed.load(&engine, false).is_none(), "of another package");
        assert!(foreign.load(&engine, false).is_none(), "of another state directory");
        for tag in [&b""[..], &[0; 32]] {
            fs::write(own.tag_path(), tag).unwrap();
            assert!(own.load(&engine, false).is_none());
        }
        // The checksum of earlier versions is no tag.
        fs::remove_file(own.tag_path()).unwrap();
        fs::write(own.path().with_extension("xxh3"), xxhash_rust::xxh3::xxh3_64(&code).to_le_bytes()).unwrap();
        assert!(own.load(&engine, false).is_none());
        own.write(&engine, &code).unwrap();
        let mut changed = code.clone();
        changed[code.len() / 2] ^= 1;
        fs::write(own.path(), &changed).unwrap();
        assert!(own.load(&engine, false).is_none());
    }

    #[test]
    fn a_link_or_a_file_of_another_user_is_not_loaded() {
        let (engine, code) = compiled();
        let dir = tempfile::tempdir().unwrap();
        let file = CodeFile::new(dir.path().join("a.cwasm"), CodeKey::open(dir.path(), None).unwrap());
        file.write(&engine, &code).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(file.path(), Some(65_534), None).unwrap();
            assert!(file.load(&engine, true).is_none());
            std::os::unix::fs::chown(file.path(), Some(0), None).unwrap();
        }
        assert!(file.load(&engine, true).is_some());
        fs::rename(file.path(), dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", file.path()).unwrap();
        assert!(file.load(&engine, true).is_none());
    }

    const NOEXEC: &str = "WASMOP_TEST_NOEXEC_DIR";

    /// Mounts a `noexec` file system in a new mount namespace, and runs itself again there.
    #[test]
    fn code_loads_from_a_noexec_file_system() {
        if let Some(dir) = std::env::var_os(NOEXEC) {
            let (engine, code) = compiled();
            let dir = PathBuf::from(dir);
            let file = CodeFile::new(dir.join("a.cwasm"), CodeKey::open(&dir, None).unwrap());
            file.write(&engine, &code).unwrap();
            assert!(is_noexec(&file.open().unwrap()));
            assert!(file.load(&engine, false).is_some());
            assert!(file.load_from(&engine, &file.open().unwrap(), false).is_err(), "the mount has no effect");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mount = r#"mount -t tmpfs -o noexec,mode=700 none "$0" || exit 77; exec "$@""#;
        let test = "compiled_code_file::tests::code_loads_from_a_noexec_file_system";
        let output = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
            .arg(dir.path())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(NOEXEC, dir.path())
            .output();
        match output {
            Ok(output) if output.status.success() => {
                assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
            }
            Ok(output) if output.status.code() == Some(101) => {
                panic!("{}", String::from_utf8_lossy(&output.stdout));
            }
            other => eprintln!("no mount namespace here: {other:?}"),
        }
    }
}
