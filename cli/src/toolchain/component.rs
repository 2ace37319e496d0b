//! From a project whose build is its own to a component: runs the project's command, if it has one, and
//! reads the component it names. Any language will do that can be compiled for the world in wit/.

use std::fs;
use std::process::Command;

use anyhow::Result;
use wasmop_package::manifest::Sdk;

use super::{Core, Request};
use crate::error::HelpExt;

/// In place of an SDK: the world the component was made for.
const WORLD: &str = "wasmop:controller";

/// Runs the project's command and reads what it made.
pub fn build_core(request: &Request<'_>) -> Result<Core> {
    let project = request.project;
    if let [program, arguments @ ..] = &project.command[..] {
        // A place for what it makes; compilers don't make directories.
        request.work_dir()?;
        request.step.message(program.clone());
        request.run(Command::new(program).args(arguments).current_dir(request.dir()))?;
    }
    let path = request.dir().join(&project.component);
    let help = match project.command[..] {
        [] => "build the component first, or give the command that does with `command` in [build] of wasmop.toml",
        _ => "`component` in [build] of wasmop.toml must name the file that `command` makes",
    };
    let module = fs::read(&path).or_help(format!("cannot read the component `{}`", path.display()), help)?;
    Ok(Core { module, sdk: Sdk::new(WORLD, env!("CARGO_PKG_VERSION")), blame: None })
}
