//! Files that are written whole or not at all: a temporary file in the same directory, then a rename.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::interrupt::Cleanup;

/// Replaces the file at `path`, and creates its directory. An interrupt or a crash leaves the old file or the new one.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, None)
}

/// Replaces the file at `path` with a copy of `source`, permissions included.
pub fn copy(source: &Path, path: &Path) -> io::Result<()> {
    write(path, &fs::read(source)?, Some(fs::metadata(source)?.permissions()))
}

fn write(path: &Path, content: &[u8], permissions: Option<fs::Permissions>) -> io::Result<()> {
    let mut file = temporary_file(path)?;
    let cleanup = {
        let temporary = file.path().to_owned();
        Cleanup::new(move || {
            let _ = fs::remove_file(&temporary);
        })
    };
    file.write_all(content)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    cleanup.disarm();
    Ok(())
}

/// Whether [`replace`] can write there. Creates the directory.
pub fn check(path: &Path) -> io::Result<()> {
    temporary_file(path).map(drop)
}

/// An empty file in the directory of `path`, which is removed when it is dropped.
fn temporary_file(path: &Path) -> io::Result<NamedTempFile> {
    match fs::symlink_metadata(path) {
        // A name that is too long, for example.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    fs::create_dir_all(dir)?;
    tempfile::Builder::new()
        .prefix(".wasmop-")
        .suffix(".tmp")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let output = dir.path().join("made/web.wasm");
        for content in ["one", "two"] {
            check(&output).expect("can be written");
            replace(&output, content.as_bytes()).expect("writes");
            assert_eq!(fs::read(&output).expect("is there"), content.as_bytes());
        }
        assert_eq!(fs::read_dir(dir.path().join("made")).expect("reads").count(), 1);

        fs::set_permissions(&output, fs::Permissions::from_mode(0o600)).expect("is ours");
        let copied = dir.path().join("copied");
        copy(&output, &copied).expect("copies");
        assert_eq!(fs::metadata(&copied).expect("is there").permissions().mode() & 0o777, 0o600);
    }
}
