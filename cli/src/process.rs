//! Running a compiler. Its last line is shown as the progress, and its whole output if it fails.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::error::join_help;
use crate::interrupt::Cleanup;
use crate::output::Step;

/// A tool that ended with an error. Its output has already been shown.
#[derive(Debug)]
pub struct Failed {
    /// As one would type it.
    command: String,
    status: ExitStatus,
    /// Its whole output, without colours.
    pub output: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = format!("`{}` failed ({})", self.command, self.status);
        f.write_str(&join_help(&problem, "its own messages are above"))
    }
}

impl std::error::Error for Failed {}

/// Runs `command` and returns its stdout. An interrupt of the program kills the child.
pub fn run(command: &mut Command, step: &Step) -> Result<Vec<u8>> {
    let shown = display(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{shown}`"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let child = Arc::new(Mutex::new(child));
    let killer = {
        let child = child.clone();
        Cleanup::new(move || {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        })
    };

    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stdout) = stdout {
            stdout.read_to_end(&mut bytes)?;
        }
        std::io::Result::Ok(bytes)
    });
    let mut messages = String::new();
    if let Some(stderr) = stderr {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.with_context(|| format!("cannot read the messages of `{shown}`"))?;
            let line = String::from_utf8_lossy(&line).into_owned();
            messages.push_str(&line);
            messages.push('\n');
            step.message(console::strip_ansi_codes(line.trim()).into_owned());
        }
    }
    let stdout = reader
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("the reading thread panicked")))
        .with_context(|| format!("cannot read the output of `{shown}`"))?;
    // Its pipes are closed, so it is about to end and the wait is short.
    let status = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
    killer.disarm();
    let status = status.with_context(|| format!("cannot wait for `{shown}`"))?;
    step.message("");
    if status.success() {
        return Ok(stdout);
    }
    if !stdout.is_empty() && messages.trim().is_empty() {
        messages = String::from_utf8_lossy(&stdout).into_owned();
    }
    step.line(messages.trim_end());
    let output = console::strip_ansi_codes(&messages).into_owned();
    Err(Failed { command: shown, status, output }.into())
}

/// The command as one would type it.
fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    // Only a NUL cannot be quoted, and no argument has one.
    shlex::try_join(words.iter().map(|word| &**word)).unwrap_or_else(|_| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stdout_is_returned_and_a_failure_names_the_command() {
        let step = Step::begin("testing", "tested");
        let output = run(Command::new("sh").args(["-c", "echo out; echo err >&2"]), &step).expect("runs");
        assert_eq!(output, b"out\n");
        let error = run(Command::new("sh").args(["-c", "exit 3"]), &step).expect_err("fails").to_string();
        assert!(error.contains("sh -c 'exit 3'") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let step = Step::begin("testing", "tested");
        let error = run(&mut Command::new("no-such-compiler"), &step).expect_err("fails").to_string();
        assert!(error.contains("no-such-compiler"), "{error}");
    }
}
