//! The lines that `wasmop init` prints: what was found, and where.

use std::fmt::Write;

use super::deployment::VariableValue;
use super::survey::Findings;
use crate::escape::escape;
use crate::output::Paint;
use crate::project::language_name;

/// Skipped files that are named. More would hide the rest.
const MOST_SKIPPED: usize = 5;

/// A table of the findings.
pub fn summary(findings: &Findings, paint: Paint) -> String {
    let mut text = String::new();
    let mut row = |what: &str, found: String, from: &str| {
        // The files may come from anyone.
        let (found, from) = (escape(&found).replace('\n', " "), escape(from).replace('\n', " "));
        let from = if from.is_empty() { from } else { paint.dim(&format!("  {from}")) };
        let _ = writeln!(text, "  {what:<12} {found}{from}");
    };
    row("name", findings.name.clone(), &findings.name_from);
    row("version", findings.version.clone(), &findings.version_from);
    let program = match (&findings.bin, &findings.package) {
        (Some(bin), _) => format!("{}, binary {bin}", language_name(findings.language)),
        (None, Some(package)) => format!("{}, package {package}", language_name(findings.language)),
        (None, None) => language_name(findings.language).to_owned(),
    };
    row("language", program, "");
    let crds = &findings.crds;
    match &findings.crds_command {
        Some(generator) if generator.problem.is_none() => {
            row("CRDs", "printed by".to_owned(), &generator.command.join(" "))
        }
        Some(generator) => row("CRDs", "none: a command failed".to_owned(), &generator.command.join(" ")),
        None if crds.globs.is_empty() => row("CRDs", "none found".to_owned(), ""),
        None => row("CRDs", crds.names.len().to_string(), &some(&crds.globs)),
    }
    let permissions = &findings.permissions;
    match permissions.len() {
        0 => row("permissions", "no rule found".to_owned(), ""),
        rules => {
            let origins: Vec<&str> = permissions.roles.iter().map(|role| role.origin.as_str()).collect();
            row("permissions", plural(rules, "rule"), &origins.join("; "));
        }
    }
    match &findings.workload {
        None => row("Deployment", "none found".to_owned(), ""),
        Some(workload) => {
            let known = |value: &VariableValue| matches!(value, VariableValue::Literal(_));
            let variables = workload.variables.iter().filter(|variable| known(&variable.value)).count();
            let found = format!("{}, {}", plural(workload.arguments.len(), "argument"), plural(variables, "variable"));
            row("Deployment", found, &workload.origin);
            for other in &workload.others {
                row("", format!("not used: {other}"), "");
            }
        }
    }
    if !findings.unused.is_empty() {
        row("not used", findings.unused.join(", "), "");
    }
    for skipped in findings.skipped.iter().take(MOST_SKIPPED) {
        row("skipped", skipped.clone(), "");
    }
    if let Some(more) = findings.skipped.len().checked_sub(MOST_SKIPPED).filter(|more| *more > 0) {
        row("skipped", format!("{more} more"), "");
    }
    text
}

/// The first of a list that may be long.
fn some(names: &[String]) -> String {
    match names {
        [first, second, _, rest @ ..] => format!("{first}, {second} and {} more", rest.len() + 1),
        names => names.join(", "),
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
