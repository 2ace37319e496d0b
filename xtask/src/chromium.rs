//! A browser for the host's page.

use std::process::Command;

use crate::{command, debian};

const PROGRAM: &str = "chromium";
const PACKAGES: debian::Packages = &[("chromium", "/usr/bin/chromium")];

/// Why there is no Chromium, if there is none. On a CI machine it is installed, elsewhere only looked for.
pub fn missing() -> Option<String> {
    if runs() {
        return None;
    }
    if std::env::var_os("CI").is_none_or(|value| value.is_empty()) {
        return Some("no `chromium` on PATH (apt-get install chromium)".into());
    }
    let installed = debian::install("the test of the host's page", PACKAGES, "install Chromium");
    let error = installed.err().map(|error| format!("{error:#}"));
    let error = error.or_else(|| (!runs()).then(|| "it was installed and does not run".into()))?;
    Some(format!("Chromium cannot be had: {}", error.lines().next().unwrap_or_default()))
}

fn runs() -> bool {
    command::succeeds(Command::new(PROGRAM).arg("--version"))
}
