//! Builds a project with its own command, if it has one, and reads the component that it names. This works for any
//! language that compiles to the world in wit/.

use std::fs;
use std::process::Command;

use anyhow::Result;
use wasmop_package::manifest::{Mode, Sdk};

use super::{Core, Request};
use crate::error::HelpExt;

/// Stands for the SDK: the component's world.
const WORLD: &str = "wasmop:controller";

/// Runs the project's command and reads the component.
pub fn build_core(request: &Request<'_>) -> Result<Core> {
    let project = request.project;
    if let [program, arguments @ ..] = &project.command[..] {
        // Compilers do not create the directory of their output.
        request.work_dir()?;
        request.step.message(program.clone());
        request.run(Command::new(program).args(arguments).current_dir(request.dir()))?;
    }
    let path = request.dir().join(&project.component);
    let help = match project.command[..] {
        [] => "build the component first, or name its build command with `command` in [build] of wasmop.toml",
        _ => "`component` in [build] of wasmop.toml must name the file that `command` creates",
    };
    let module = fs::read(&path).or_help(format!("cannot read the component `{}`", path.display()), help)?;
    Ok(Core {
        module,
        sdk: Sdk::new(WORLD, env!("CARGO_PKG_VERSION")),
        mode: Mode::HostDriven,
        mode_reason: None,
        unmodified: false,
        blame: None,
    })
}
