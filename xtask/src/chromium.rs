//! Finds or installs a browser for the test of the host's page.

use std::process::Command;

use crate::ci::is_ci;
use crate::{command, debian};

const PROGRAM: &str = "chromium";
const PACKAGES: debian::Packages = &[("chromium", "/usr/bin/chromium")];

/// The reason if there is no Chromium. On a CI machine this installs it.
pub fn missing() -> Option<String> {
    if runs() {
        return None;
    }
    if !is_ci() {
        return Some("no `chromium` on PATH (apt-get install chromium)".into());
    }
    let installed = debian::install("the test of the host's page", PACKAGES, "install Chromium");
    let error = installed.err().map(|error| format!("{error:#}"));
    let error = error.or_else(|| (!runs()).then(|| "it was installed and does not run".into()))?;
    Some(format!("Chromium is unavailable: {}", error.lines().next().unwrap_or_default()))
}

fn runs() -> bool {
    command::succeeds(Command::new(PROGRAM).arg("--version"))
}
