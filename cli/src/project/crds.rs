//! The CustomResourceDefinitions of a project: `crds` in `wasmop.toml`, globs of YAML files.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::{FILE_NAME, Project};
use crate::error::{HelpExt, failure};

impl Project {
    /// The documents of every file that `crds` matches, in the order of the file names.
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
                documents.extend(crd_documents(&file, &text)?);
            }
            if !found {
                let problem = format!("`crds`: no file matches `{pattern}` in `{}`", self.dir.display());
                return Err(failure(problem, help).into());
            }
        }
        Ok(documents)
    }
}

/// Splits a YAML stream into documents, and checks that each is a CustomResourceDefinition.
fn crd_documents(file: &Path, text: &str) -> Result<Vec<String>> {
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = serde_json::Value::deserialize(document).or_help(
            format!("`{}` is not valid YAML", file.display()),
            "correct the file; `crds` takes YAML or JSON",
        )?;
        if value.is_null() {
            continue;
        }
        if value["kind"] != "CustomResourceDefinition" {
            return Err(failure(
                format!(
                    "`{}` contains a document of kind {}, not a CustomResourceDefinition",
                    file.display(),
                    value["kind"]
                ),
                format!("move it elsewhere, or narrow `crds` in `{FILE_NAME}`"),
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

    #[test]
    fn a_crd_file_may_hold_several_documents_but_nothing_else() {
        let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a.b}\n";
        let file = Path::new("crds/a.yaml");
        let documents = crd_documents(file, &format!("---\n{crd}---\n{crd}")).expect("valid");
        assert_eq!(documents.len(), 2);
        let error = crd_documents(file, "kind: Secret\n").expect_err("refused").to_string();
        assert!(error.contains("crds/a.yaml") && error.contains("Secret"), "{error}");
    }
}
