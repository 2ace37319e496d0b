//! The CustomResourceDefinitions of a project: `crds` in `wasmop.toml`, globs of YAML files, and `crds-command`, a
//! program that prints them.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde::Deserialize;

use super::{FILE_NAME, Project};
use crate::error::{HelpExt, failure};
use crate::output::Step;
use crate::process;

impl Project {
    /// The documents of every file that `crds` matches, in the order of the file names, and those that `crds-command`
    /// prints.
    pub fn read_crds(&self) -> Result<Vec<String>> {
        let mut documents = Vec::new();
        for pattern in &self.crds {
            let help = format!("correct `crds` in `{}`", self.file.display());
            let full = Path::new(&glob::Pattern::escape(&self.dir.to_string_lossy())).join(pattern);
            let matches = glob::glob(&full.to_string_lossy())
                .or_help(format!("`crds`: `{pattern}` is not a valid pattern"), help.clone())?;
            let mut found = false;
            for file in matches {
                let file = file.or_help(format!("`crds`: cannot look for `{pattern}`"), help.clone())?;
                found = true;
                let text = std::fs::read_to_string(&file)
                    .or_help(format!("cannot read `{}`", file.display()), help.clone())?;
                let narrow = format!("move it elsewhere, or narrow `crds` in `{FILE_NAME}`");
                documents.extend(crd_documents(&format!("`{}`", file.display()), &text, &narrow)?);
            }
            if !found {
                let problem = format!("`crds`: no file matches `{pattern}` in `{}`", self.dir.display());
                return Err(failure(problem, help).into());
            }
        }
        if !self.crds_command.is_empty() {
            let help = || format!("correct `crds-command` in `{}`", self.file.display());
            let printed = crds_of_command(&self.dir, &self.crds_command).or_help("`crds-command` failed", help())?;
            if printed.is_empty() {
                return Err(failure("`crds-command` printed no CustomResourceDefinition", help()).into());
            }
            documents.extend(printed);
        }
        Ok(documents)
    }
}

/// Runs a program in `dir`, without a shell, and returns the CustomResourceDefinitions that it prints.
pub fn crds_of_command(dir: &Path, command: &[String]) -> Result<Vec<String>> {
    let Some((program, arguments)) = command.split_first() else { return Ok(Vec::new()) };
    let step = Step::begin("Generating CustomResourceDefinitions", "Generated CustomResourceDefinitions");
    let output = process::run(Command::new(program).args(arguments).current_dir(dir), &step)?;
    let documents = crd_documents(
        &format!("the output of `{program}`"),
        &String::from_utf8_lossy(&output),
        "it must print CustomResourceDefinitions and nothing else; messages belong on stderr",
    )?;
    step.done(documents.len().to_string());
    Ok(documents)
}

/// Splits a YAML stream into documents, and checks that each is a CustomResourceDefinition. `origin` names it in errors,
/// and `help` is the remedy for another document.
fn crd_documents(origin: &str, text: &str, help: &str) -> Result<Vec<String>> {
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = serde_json::Value::deserialize(document)
            .or_help(format!("{origin} is not valid YAML"), "correct it; `crds` takes YAML or JSON")?;
        if value.is_null() {
            continue;
        }
        if value["kind"] != "CustomResourceDefinition" {
            return Err(failure(
                format!("{origin} contains a document of kind {}, not a CustomResourceDefinition", value["kind"]),
                help,
            )
            .into());
        }
        documents.push(serde_json::to_string(&value)?);
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRD: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a.b}\n";

    #[test]
    fn a_crd_file_may_hold_several_documents_but_nothing_else() {
        let documents = crd_documents("`crds/a.yaml`", &format!("---\n{CRD}---\n{CRD}"), "").expect("valid");
        assert_eq!(documents.len(), 2);
        let error = crd_documents("`crds/a.yaml`", "kind: Secret\n", "").expect_err("refused").to_string();
        assert!(error.contains("crds/a.yaml") && error.contains("Secret"), "{error}");
    }

    #[test]
    fn a_command_prints_crds_in_the_projects_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("crd"), CRD).expect("writes");
        let run = |script: &str| crds_of_command(dir.path(), &["sh", "-c", script].map(str::to_owned));
        assert_eq!(run("cat crd; echo ---; cat crd").expect("valid").len(), 2);
        assert_eq!(run("true").expect("valid").len(), 0);
        for script in ["echo kind: Secret", "echo '['", "exit 1"] {
            assert!(run(script).is_err(), "{script}");
        }
    }
}
