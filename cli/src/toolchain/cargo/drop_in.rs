//! Decides whose loop runs the reconciles of a program that does not use the crate `wasmop`.
//!
//! Such a program is first built with a `Controller` of the host. Its module then shows whether that can work: the methods
//! that only a guest-driven `Controller` has are imports, and the linker keeps those that the program uses.

use anyhow::{Context, Result};
use wasmop_package::core_imports;
use wasmop_package::manifest::Mode;

use crate::error::{Failure, failure};
use crate::project::{BuildOptions, FILE_NAME, Project};
use crate::toolchain::Request;

/// The module of the imports that stand for methods of a guest-driven `Controller`.
const GUEST_DRIVEN_ONLY: &str = "wasmop_needs_guest_driven";

/// The function that registers a controller with the host.
const REGISTER: (&str, &str) = ("wasmop:controller/runtime@0.1.0", "register");

const NO_CONTROLLER: &str = "the program runs no Controller";
const NOT_COMPILED: &str = "it does not compile with a Controller of the host";

/// A built program.
pub struct Built {
    pub module: Vec<u8>,
    pub mode: Mode,
    /// Why it is guest-driven.
    pub reason: Option<String>,
}

/// Checks the mode that the project asks for.
pub fn check(project: &Project, unmodified: bool) -> Result<(), Failure> {
    if unmodified || project.options.mode != Some(Mode::GuestDriven) {
        return Ok(());
    }
    Err(failure(
        format!("{} uses the crate `wasmop`, so it cannot be guest-driven", project.name),
        format!("remove `mode` under [build] in {FILE_NAME}; only programs without that crate have a choice"),
    ))
}

/// Why a program is guest-driven that was not built with a `Controller` of the host.
pub fn no_choice(options: &BuildOptions) -> String {
    match options.mode {
        Some(Mode::GuestDriven) => "the project asks for it".to_owned(),
        _ => NO_CONTROLLER.to_owned(),
    }
}

/// Builds the program with a `Controller` of the host, and with a guest-driven one if it needs that. `compile` gets whether
/// it is the former.
pub fn build(request: &Request<'_>, compile: impl Fn(bool) -> Result<Vec<u8>>) -> Result<Built> {
    let is_forced = request.project.options.mode == Some(Mode::HostDriven);
    let module = match compile(true) {
        Ok(module) => module,
        Err(error) if is_forced => return Err(error),
        // If the program itself is at fault, the second build says so.
        Err(_) => {
            let module = compile(false)?;
            request.step.line(format!("guest-driven, because {NOT_COMPILED}"));
            return Ok(Built { module, mode: Mode::GuestDriven, reason: Some(NOT_COMPILED.to_owned()) });
        }
    };
    let verdict = Verdict::on(&module)?;
    let Some(reason) = verdict.reason() else { return Ok(Built { module, mode: Mode::HostDriven, reason: None }) };
    if is_forced {
        return Err(failure(
            format!("{} cannot be host-driven: {reason}", request.project.name),
            format!("remove `mode` under [build] in {FILE_NAME}, and it is built guest-driven"),
        )
        .into());
    }
    let module = match verdict {
        Verdict::NeedsGuestDriven { .. } => {
            request.step.line(format!("guest-driven, because {reason}"));
            compile(false)?
        }
        Verdict::HostDriven | Verdict::NoController => module,
    };
    Ok(Built { module, mode: Mode::GuestDriven, reason: Some(reason) })
}

/// What a build with a `Controller` of the host shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    HostDriven,
    /// The program works in either build, and drives itself.
    NoController,
    /// The program has to be built with a guest-driven `Controller`.
    NeedsGuestDriven {
        /// The methods that the program calls.
        methods: Vec<String>,
    },
}

impl Verdict {
    /// The verdict on a core module.
    pub fn on(module: &[u8]) -> Result<Verdict> {
        let imports = core_imports(module).context("cargo's output is not a WebAssembly module")?;
        let of_guest_driven = imports.iter().filter(|import| import.module == GUEST_DRIVEN_ONLY);
        let methods: Vec<String> = of_guest_driven.map(|import| import.name.clone()).collect();
        if !methods.is_empty() {
            return Ok(Verdict::NeedsGuestDriven { methods });
        }
        let registers = imports.iter().any(|import| (&*import.module, &*import.name) == REGISTER);
        Ok(if registers { Verdict::HostDriven } else { Verdict::NoController })
    }

    /// Why the program is guest-driven; `None` if it is not.
    pub fn reason(&self) -> Option<String> {
        match self {
            Verdict::HostDriven => None,
            Verdict::NoController => Some(NO_CONTROLLER.to_owned()),
            Verdict::NeedsGuestDriven { methods } => Some(format!("the program calls {}", methods.join(" and "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_decide_about_the_mode() {
        let register = r#"(import "wasmop:controller/runtime@0.1.0" "register" (func (param i32 i32) (result i32)))"#;
        let only = |method: &str| format!(r#"(import "wasmop_needs_guest_driven" "Controller::{method}" (func))"#);
        let (store, on) = (only("store"), only("reconcile_on"));
        for (imports, reason) in [
            (register.to_owned(), None),
            (String::new(), Some("the program runs no Controller")),
            (format!("{register}{store}"), Some("the program calls Controller::store")),
            (format!("{store}{on}"), Some("the program calls Controller::store and Controller::reconcile_on")),
        ] {
            let module = wat::parse_str(format!("(module {imports})")).expect("a module");
            assert_eq!(Verdict::on(&module).expect("a verdict").reason().as_deref(), reason, "{imports}");
        }
    }
}
