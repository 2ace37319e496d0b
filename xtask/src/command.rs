//! Runs other programs.

use std::process::{Command, Stdio};

use anyhow::{Result, anyhow, bail};
use wasmop_testbed::cargo_variables;

use crate::repository;

/// `cargo` of the toolchain that started this program, in the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository::root());
    cargo_variables::remove(&mut command);
    command
}

/// Runs it with this program's terminal.
///
/// # Errors
///
/// It cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    if !status.success() {
        bail!("`{}` failed ({status})", display(command));
    }
    Ok(())
}

/// Runs it and returns its stdout.
///
/// # Errors
///
/// It cannot be started or fails; the message includes its stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| cannot_start(command, &error))?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({})\n{}",
            display(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs it with its stdout on our stderr: our stdout is for data.
///
/// # Errors
///
/// It cannot be started or fails.
pub fn run_aside(command: &mut Command) -> Result<()> {
    run(command.stdin(Stdio::null()).stdout(std::io::stderr()))
}

/// Whether it runs and succeeds. Its output is discarded.
pub fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The error for a program that cannot be started, with the remedy.
pub fn cannot_start(command: &Command, error: &std::io::Error) -> anyhow::Error {
    anyhow!("{} cannot be started: {error}\nhelp: install it, or add it to PATH", command.get_program().display())
}

/// The command line as a person would type it in a shell.
pub fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// `word`, quoted if a shell requires it.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+{}".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_if_a_shell_requires_it() {
        for (word, quoted) in [
            ("--lang", "--lang"),
            ("a/b.wasm", "a/b.wasm"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            (r#"{"a":1}"#, r#"'{"a":1}'"#),
            ("jsonpath={.status}", "jsonpath={.status}"),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }
}
