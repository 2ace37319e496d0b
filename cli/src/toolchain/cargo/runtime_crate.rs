//! The crate `wasmop-runtime` for programs that do not depend on `wasmop`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::embedded::SDK_RUST;

/// Where the crate is in the SDK.
const IN_SDK: &str = "runtime/";

/// Writes the crate to `dir`. Files that are up to date stay, so that cargo does not build them again.
pub fn write(dir: &Path) -> Result<PathBuf> {
    for (path, bytes) in files() {
        let path = dir.join(path);
        if fs::read(&path).is_ok_and(|before| before == bytes) {
            continue;
        }
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(dir.to_owned())
}

fn files() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    SDK_RUST.iter().filter_map(|file| Some((file.path.strip_prefix(IN_SDK)?, file.bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_is_written_once() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path()).expect("written");
        let manifest = dir.path().join("Cargo.toml");
        assert!(fs::read_to_string(&manifest).expect("there").contains("name = \"wasmop-runtime\""));
        assert!(dir.path().join("src/executor.rs").exists());
        let before = fs::metadata(&manifest).and_then(|meta| meta.modified()).expect("a time");
        write(dir.path()).expect("written");
        assert_eq!(fs::metadata(&manifest).and_then(|meta| meta.modified()).expect("a time"), before);
    }
}
