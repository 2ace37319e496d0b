//! Errors for people: what failed, its causes, and a remedy.
//!
//! Any error may be an `anyhow::Error`. A [`Failure`] carries its remedy. An error of a library has its remedy in its
//! text, after `\nhelp: `; [`split_help`] and [`join_help`] are the only functions that know this mark. [`render`]
//! shows all remedies at the end.

use std::fmt;

use crate::escape::escape;
use crate::output::Paint;

/// An error with a remedy.
#[derive(Debug)]
pub struct Failure {
    message: String,
    help: Vec<String>,
    /// Whether the command line was wrong.
    usage: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Adds a remedy if the error has none.
    pub fn else_help(mut self, help: impl Into<String>) -> Self {
        if self.help.is_empty() {
            self.help.push(help.into());
        }
        self
    }

    /// Marks the command line as wrong, so that the program exits with clap's code.
    pub fn usage(mut self) -> Self {
        self.usage = true;
        self
    }
}

/// An error with a message that names the input, and a remedy. The remedy may have several lines.
pub fn failure(message: impl Into<String>, help: impl Into<String>) -> Failure {
    Failure { message: message.into(), help: vec![help.into()], usage: false }
}

/// Adds a message and a remedy to any error.
pub trait HelpExt<T> {
    fn or_help(self, message: impl Into<String>, help: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E> HelpExt<T> for Result<T, E>
where
    E: Into<anyhow::Error>,
{
    fn or_help(self, message: impl Into<String>, help: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| {
            let error = error.into();
            // anyhow does not find a context below another one, so the remedies move up.
            let mut outer = failure(message, help);
            outer.help.extend(help_of(&error));
            error.context(outer)
        })
    }
}

/// The program's exit code for an error (docs/cli.md).
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Failure>().is_some_and(|failure| failure.usage) { 2 } else { 1 }
}

/// Separates problem and remedy in the text of a library's error.
const HELP_MARK: &str = "\nhelp: ";

/// A library's error about one input, whose name comes first.
pub fn about(input: impl fmt::Display, error: impl fmt::Display) -> Failure {
    let text = error.to_string();
    let (message, help) = split_help(&text);
    Failure {
        message: format!("{input}: {message}"),
        help: help.into_iter().map(str::to_owned).collect(),
        usage: false,
    }
}

/// The whole error, as the user sees it.
pub fn render(error: &anyhow::Error, paint: Paint) -> String {
    let mut text = String::new();
    let mut previous = String::new();
    for cause in error.chain() {
        // It may contain text from a package.
        let cause = escape(&cause.to_string());
        let (message, _) = split_help(&cause);
        if text.is_empty() {
            text.push_str(&format!("{} {message}\n", paint.error("error:")));
        } else if !previous.contains(message) {
            // Some libraries repeat the text of the source in their own.
            text.push_str(&format!("  {} {}\n", paint.dim("caused by:"), indent(message, 13)));
        }
        previous = message.to_owned();
    }
    for help in help_of(error) {
        text.push_str(&format!("{} {}\n", paint.help("help:"), indent(&escape(&help), 6)));
    }
    text
}

/// The error and its remedies as one text each, for a log line.
pub fn problem_and_help(error: &anyhow::Error) -> (String, String) {
    let mut problem = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let (message, _) = split_help(&cause);
        if !problem.contains(message) {
            problem = if problem.is_empty() { message.into() } else { format!("{problem}: {message}") };
        }
    }
    (problem, help_of(error).join("; "))
}

/// All remedies in the chain, the outermost first.
fn help_of(error: &anyhow::Error) -> Vec<String> {
    let mut help: Vec<String> = Vec::new();
    let mut add = |text: &str| {
        if !help.iter().any(|it| it == text) {
            help.push(text.to_owned());
        }
    };
    // anyhow finds a context only through the error itself, and a source only through the chain.
    let context = error.downcast_ref::<Failure>().into_iter();
    context.flat_map(|failure| &failure.help).for_each(|text| add(text));
    for cause in error.chain() {
        match cause.downcast_ref::<Failure>() {
            Some(failure) => failure.help.iter().for_each(|text| add(text)),
            None => split_help(&cause.to_string()).1.into_iter().for_each(&mut add),
        }
    }
    help
}

/// Splits the text of a library's error into the problem and its remedy.
pub fn split_help(text: &str) -> (&str, Option<&str>) {
    match text.split_once(HELP_MARK) {
        Some((message, help)) => (message.trim_end(), Some(help.trim_end())),
        None => (text.trim_end(), None),
    }
}

/// A problem and its remedy as one text, for an error that has to be text. [`split_help`] is the inverse.
pub fn join_help(problem: &str, help: &str) -> String {
    format!("{problem}{HELP_MARK}{help}")
}

fn indent(text: &str, by: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:by$}", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_with_its_causes_and_all_remedies() {
        let error = Err::<(), _>(failure("inner", "do a"))
            .or_help("middle", "do c")
            .or_help("outer", "do b\nthen more")
            .expect_err("an error");
        let text = render(&error, Paint::PLAIN);
        let (problem, help) = problem_and_help(&error);
        assert_eq!((&*problem, &*help), ("outer: middle: inner", "do b\nthen more; do c; do a"));
        assert_eq!(
            text,
            "error: outer\n  caused by: middle\n  caused by: inner\nhelp: do b\n      then more\nhelp: do c\nhelp: do a\n"
        );
    }

    #[test]
    fn a_cause_repeated_by_the_error_above_is_shown_once() {
        let error = anyhow::anyhow!("no such file").context("read x: no such file");
        assert_eq!(render(&error, Paint::PLAIN), "error: read x: no such file\n");
    }

    #[test]
    fn a_remedy_in_the_text_of_an_error_moves_to_the_end() {
        let error = anyhow::anyhow!("it is broken\nhelp: mend it").context("cannot use it");
        assert_eq!(render(&error, Paint::PLAIN), "error: cannot use it\n  caused by: it is broken\nhelp: mend it\n");
        let error = about("a.wasm", "it is broken\nhelp: mend it").into();
        assert_eq!(render(&error, Paint::PLAIN), "error: a.wasm: it is broken\nhelp: mend it\n");
    }
}
