//! Embeds the templates, SDKs and port rules file by file, so that the command works without this repository.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Build artefacts and metadata in the embedded trees.
const NOT_SOURCES: [&str; 5] = ["target", ".git", ".wasmop", ".DS_Store", "testdata"];

fn main() {
    let root = PathBuf::from(env("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in a folder of the repository")
        .to_path_buf();
    let mut code = String::new();
    embed(&mut code, "TEMPLATES", &root.join("templates"), &[]);
    // Port rules are not part of the SDK, and cargo never reads the lock file of a dependency.
    embed(&mut code, "SDK_RUST", &root.join("guest-rust"), &["port", "Cargo.lock", "tests"]);
    embed(&mut code, "PORT_RUST", &root.join("guest-rust").join("port"), &[]);
    embed(&mut code, "SDK_GO", &root.join("guest-go"), &["port"]);
    embed(&mut code, "PORT_GO", &root.join("guest-go/port"), &["go.mod"]);
    fs::write(Path::new(&env("OUT_DIR")).join("embedded.rs"), code).expect("OUT_DIR is writable");
}

/// Writes `pub static NAME: &[File]` with every file below `dir`, without the entries named in `skip`.
fn embed(code: &mut String, name: &str, dir: &Path, skip: &[&str]) {
    println!("cargo:rerun-if-changed={}", dir.display());
    let mut files = Vec::new();
    collect(dir, skip, &mut files);
    files.sort();
    writeln!(code, "pub static {name}: &[File] = &[").expect("a string takes everything");
    for file in files {
        let relative = file.strip_prefix(dir).expect("found below it");
        let relative = relative.to_str().expect("our file names are UTF-8").replace('\\', "/");
        writeln!(code, "    File {{ path: {relative:?}, bytes: include_bytes!({file:?}) }},")
            .expect("a string takes everything");
    }
    code.push_str("];\n");
}

fn collect(dir: &Path, skip: &[&str], files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("cannot read {}: {error}", dir.display()));
    for entry in entries.map(|entry| entry.expect("a readable folder")) {
        let (path, name) = (entry.path(), entry.file_name());
        let skipped = |names: &[&str]| names.iter().any(|skip| name == *skip);
        if skipped(&NOT_SOURCES) || skipped(skip) {
            continue;
        }
        if path.is_dir() {
            collect(&path, skip, files);
        } else {
            files.push(path);
        }
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
