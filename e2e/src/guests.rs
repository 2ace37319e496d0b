//! The conformance guests: sources in `e2e/guests`, built with `wasmop build`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use wasmop_testbed::cargo_variables;

/// The variables with the reason why TinyGo or componentize-py is missing.
const SKIP_TINYGO: &str = "WASMOP_E2E_SKIP_TINYGO";
const SKIP_PYTHON: &str = "WASMOP_E2E_SKIP_PYTHON";

/// A built guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name in the host, and in the label of its Probes.
    pub name: &'static str,
    /// Its column in the table.
    pub column: &'static str,
    pub package: PathBuf,
}

/// A column of the table: a guest, or the reason why it is missing.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: &'static str,
    pub guest: Result<Guest, String>,
}

/// The columns of the conformance table.
pub const COLUMNS: [&str; 3] = ["rust", "go", "tinygo"];

/// Builds all of [`COLUMNS`]. A guest whose toolchain is missing is skipped; any other failure is an error.
pub fn build_all(out: &Path) -> Result<Vec<Column>> {
    build_each(COLUMNS, ("tinygo", SKIP_TINYGO), out)
}

/// The columns of the soft table: components, each built by the tools of its language.
pub const SOFT_COLUMNS: [&str; 2] = ["wasi", "python"];

/// Builds all of [`SOFT_COLUMNS`], like [`build_all`].
pub fn build_soft(out: &Path) -> Result<Vec<Column>> {
    build_each(SOFT_COLUMNS, ("python", SKIP_PYTHON), out)
}

fn build_each<const N: usize>(
    names: [&'static str; N],
    (skipped, variable): (&str, &str),
    out: &Path,
) -> Result<Vec<Column>> {
    let column = |name| {
        let skip = std::env::var(variable).ok().filter(|reason| name == skipped && !reason.is_empty());
        let guest = match skip {
            Some(reason) => Err(reason),
            None => Ok(build(name, out)?),
        };
        Ok(Column { name, guest })
    };
    names.into_iter().map(column).collect()
}

/// Builds one of [`COLUMNS`] or [`SOFT_COLUMNS`] into `out`.
pub fn build(column: &'static str, out: &Path) -> Result<Guest> {
    let (name, folder) = match column {
        "rust" => ("probe-rust", "rust"),
        "go" => ("probe-go", "go"),
        "tinygo" => ("probe-tinygo", "tinygo"),
        "wasi" => ("probe-wasi", "wasi-rust"),
        "python" => ("probe-python", "wasi-python"),
        _ => bail!("there is no guest {column}"),
    };
    let package = out.join(format!("{name}.wasm"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests").join(folder);
    let mut command = Command::new(wasmop()?);
    command.arg("build").arg(&source).arg("--output").arg(&package).env("CARGO_TARGET_DIR", cargo_target()?);
    cargo_variables::remove(&mut command);
    let output = command.output()?;
    if !output.status.success() {
        bail!("`wasmop build {}` failed:\n{}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(Guest { name, column, package })
}

/// The `wasmop` program in the same target directory.
pub fn wasmop() -> Result<PathBuf> {
    let path = target()?.join("release/wasmop");
    if !path.is_file() {
        bail!("{} is missing\nhelp: cargo build --release --workspace", path.display());
    }
    Ok(path)
}

/// The target directory of guests in Rust.
pub fn cargo_target() -> Result<PathBuf> {
    Ok(target()?.join("guests"))
}

/// Cargo's target directory. The program runs from `target/release` or `target/release/deps`.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let release = program.ancestors().find(|dir| dir.ends_with("release"));
    Ok(release.and_then(Path::parent).context("not built by `cargo build --release`")?.to_owned())
}
