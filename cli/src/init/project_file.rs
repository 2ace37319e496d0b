//! Writes findings as the text of a `wasmop.toml`. A comment stands where the value of a key is unknown.

use std::fmt::Write;

use wasmop_package::manifest::{Language, PolicyRule};

use super::deployment::{VariableValue, Workload};
use super::helm::UNKNOWN;
use super::survey::Findings;

/// The text of the project file.
pub fn text(findings: &Findings) -> String {
    let mut file = Text::default();
    file.comment("Written by `wasmop init` from the files of this project. docs/wasmop-toml.md describes every key.");
    file.blank();
    external_hosts(&mut file);
    if let Some(workload) = &findings.workload {
        arguments(&mut file, workload);
    }
    package(&mut file, findings);
    build(&mut file, findings);
    permissions(&mut file, findings);
    if let Some(workload) = &findings.workload {
        limits(&mut file, workload);
        environment(&mut file, workload);
    }
    file.finish()
}

fn external_hosts(file: &mut Text) {
    file.comment(
        "Hosts other than the API server that the controller contacts. Files do not say which: list them here, or run \
         `wasmop run --learn-permissions` on a test cluster, which prints them.",
    );
    file.line("# external-hosts = [\"https://api.example.com\"]");
    file.blank();
}

fn arguments(file: &mut Text, workload: &Workload) {
    if workload.arguments.is_empty() && workload.left_out.is_empty() {
        return;
    }
    file.comment(&format!("Arguments from {}.", workload.image_file.as_ref().unwrap_or(&workload.origin)));
    let mut previous = "";
    for left_out in &workload.left_out {
        match left_out.why {
            why if why == previous => {}
            why => file.comment(&format!("Left out, since {why}:")),
        }
        previous = left_out.why;
        file.line(&format!("#   {}", one_line(&left_out.argument)));
    }
    if !workload.arguments.is_empty() {
        file.key("args", &list(&workload.arguments));
    }
    file.blank();
}

fn package(file: &mut Text, findings: &Findings) {
    file.line("[package]");
    file.key("name", &quoted(&findings.name));
    file.key("version", &quoted(&findings.version));
    file.key("language", if findings.language == Language::Go { "\"go\"" } else { "\"rust\"" });
    file.blank();
}

fn build(file: &mut Text, findings: &Findings) {
    file.line("[build]");
    if let Some(bin) = &findings.bin {
        file.key("bin", &quoted(bin));
    }
    if let Some(example) = &findings.example {
        file.key("example", &quoted(example));
    }
    if !findings.features.is_empty() {
        file.key("features", &list(&findings.features));
    }
    if let Some(package) = findings.package.as_ref().filter(|it| *it != ".") {
        file.key("package", &quoted(package));
    }
    for note in &findings.crds.notes {
        file.comment(note);
    }
    match &findings.crds_command {
        _ if !findings.crds.globs.is_empty() => file.key("crds", &list(&findings.crds.globs)),
        Some(generator) => match &generator.problem {
            None => file.key("crds-command", &list(&generator.command)),
            Some(problem) => {
                file.comment(&format!(
                    "This did not work when `wasmop init` tried it: {}.",
                    problem.trim_end_matches('.')
                ));
                file.line(&format!("# crds-command = {}", list(&generator.command)));
            }
        },
        None => {
            let run = match findings.language {
                Language::Rust => {
                    ", or name a program that prints them, like `crds-command = [\"cargo\", \"run\", \"--\", \"crd\"]`"
                }
                _ => "",
            };
            file.comment(&format!(
                "No CustomResourceDefinition was found. If the controller has its own kinds, name the files{run}."
            ));
            file.line("# crds = [\"crds/*.yaml\"]");
        }
    }
    file.blank();
}

fn permissions(file: &mut Text, findings: &Findings) {
    let permissions = &findings.permissions;
    file.comment("What the controller may ask of the API server. The host denies all other requests.");
    if permissions.is_empty() {
        file.comment(
            "No rule was found. `wasmop run --learn-permissions` on a test cluster allows every request, and prints \
             the rules that the controller needs.",
        );
        file.line("# [[permissions]]\n# api-groups = [\"\"]\n# resources = [\"configmaps\"]");
        file.line("# verbs = [\"get\", \"list\", \"watch\"]");
    }
    file.blank();
    for role in &permissions.roles {
        file.comment(&format!("{}.", role.origin));
        for rule in &role.rules {
            file.line(&self::rule(rule));
        }
    }
    for left_out in &permissions.left_out {
        file.comment(&format!("Left out: {}.", left_out.why));
        for line in self::rule(&left_out.rule).replace(UNKNOWN, "UNKNOWN").trim_end().lines() {
            file.line(&format!("# {line}"));
        }
        file.blank();
    }
    for note in &permissions.notes {
        file.comment(note);
    }
    if !permissions.notes.is_empty() {
        file.blank();
    }
}

/// A rule as a table, with an empty line after it.
fn rule(rule: &PolicyRule) -> String {
    let mut text = "[[permissions]]\n".to_owned();
    for (key, values) in [
        ("api-groups", &rule.api_groups),
        ("resources", &rule.resources),
        ("resource-names", &rule.resource_names),
        ("non-resource-urls", &rule.non_resource_urls),
        ("verbs", &rule.verbs),
    ] {
        if !values.is_empty() {
            let _ = writeln!(text, "{key} = {}", list(values));
        }
    }
    text
}

fn limits(file: &mut Text, workload: &Workload) {
    if workload.limits.is_empty() {
        return;
    }
    file.line("[limits]");
    for limit in &workload.limits {
        match &limit.value {
            Some(value) => {
                file.comment(&format!("{}.", capitalized(&limit.why)));
                file.key(limit.key, &quoted(value));
            }
            None => file.comment(&format!("`{}` stays at wasmop's default: {}.", limit.key, limit.why)),
        }
    }
    file.blank();
}

fn environment(file: &mut Text, workload: &Workload) {
    if workload.variables.is_empty() && workload.notes.is_empty() {
        return;
    }
    file.comment(&format!("From {}.", workload.origin));
    for note in &workload.notes {
        file.comment(note);
    }
    if workload.variables.is_empty() {
        file.blank();
        return;
    }
    file.line("[env]");
    for variable in &workload.variables {
        match &variable.value {
            VariableValue::Literal(value) => file.key(&key(&variable.name), &quoted(value)),
            VariableValue::LeftOut(why) => file.comment(&format!("{}: {why}.", variable.name)),
        }
    }
    file.blank();
}

/// The text so far.
#[derive(Default)]
struct Text(String);

/// The longest line of a comment.
const WIDTH: usize = 100;

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn blank(&mut self) {
        if !self.0.ends_with("\n\n") {
            self.0.push('\n');
        }
    }

    fn key(&mut self, key: &str, value: &str) {
        self.line(&format!("{key} = {value}"));
    }

    /// A comment, wrapped.
    fn comment(&mut self, text: &str) {
        let mut line = "#".to_owned();
        for word in one_line(text).split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line != "#" {
                self.line(&line);
                "#".clone_into(&mut line);
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    fn finish(self) -> String {
        format!("{}\n", self.0.trim_end())
    }
}

/// Without characters that end a comment or that TOML does not allow in one.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// A string in TOML, on one line.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A list on one line, or with a line for each item if that is too long.
fn list(texts: &[String]) -> String {
    let items: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    let line = format!("[{}]", items.join(", "));
    if line.len() <= WIDTH { line } else { format!("[\n    {},\n]", items.join(",\n    ")) }
}

/// A key, quoted if needed.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_bare { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_keys_are_read_back_as_they_were() {
        let long = "x".repeat(200);
        for text in ["", "a", "\"\\\n\t\r\u{1}\u{7f}ü", "${A}", "'''", &long] {
            let document =
                format!("{} = {}\nlist = {}", key(text), quoted(text), list(&[text.to_owned(), text.to_owned()]));
            let table: toml::Table = document.parse().unwrap_or_else(|error| panic!("{document}: {error}"));
            assert_eq!(table[text].as_str(), Some(text));
            assert_eq!(table["list"][1].as_str(), Some(text));
        }
    }

    #[test]
    fn comments_are_wrapped_and_cannot_be_left() {
        let mut file = Text::default();
        file.comment(&format!("a\nname = \"evil\" {}", "word ".repeat(50)));
        assert!(file.0.lines().all(|line| line.starts_with("# ") && line.len() <= WIDTH), "{}", file.0);
        assert!(file.0.parse::<toml::Table>().is_ok_and(|table| table.is_empty()));
    }
}
