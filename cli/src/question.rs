//! Questions on the terminal.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Result;

use crate::error::{failure, render};
use crate::output::{self, Paint};

/// Whether someone is there to answer.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && output::is_terminal()
}

/// Asks until `check` accepts the answer. Without an answer, the error refers to the help of `verb`.
pub fn ask_until<T>(verb: &str, question: &str, check: impl Fn(&str) -> Result<T>) -> Result<T> {
    let paint = Paint::for_stderr();
    loop {
        eprint!("{} {question}: ", paint.success("?"));
        std::io::stderr().flush()?;
        let mut answer = String::new();
        if std::io::stdin().lock().read_line(&mut answer)? == 0 {
            let help = format!("give everything on the command line; see `wasmop {verb} --help`");
            return Err(failure("no answer", help).usage().into());
        }
        match check(answer.trim()) {
            Ok(value) => return Ok(value),
            Err(error) => output::line(render(&error, paint).trim_end()),
        }
    }
}

/// Asks for one of several names.
pub fn choose(verb: &str, question: &str, names: &[String]) -> Result<usize> {
    ask_until(verb, &format!("{question} ({})", names.join(", ")), |answer| {
        let found = names.iter().position(|name| name == answer);
        found.ok_or_else(|| {
            failure(format!("`{answer}` is none of them"), format!("answer {}", names.join(" or "))).into()
        })
    })
}
