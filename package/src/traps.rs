//! Makes traps of functions that a module imports because the C library with them was not built.
//!
//! ```text
//!  before   imports a  C  b │ functions f g        C: a function of a C library
//!  after    imports a  b    │ functions f g C'     C': traps
//! ```

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, Function, FunctionSection, ImportSection, Module};
use wasmparser::{CodeSectionReader, FunctionSectionReader, ImportSectionReader, Parser, Payload, TypeRef};

/// The module that the linker gives to imports of functions that it does not find.
const MISSING: &str = "env";

/// Replaces the imports of missing functions by functions that trap.
///
/// # Errors
///
/// Fails if the module is malformed.
pub fn make_traps(module: &[u8]) -> Result<Vec<u8>, Error> {
    let mut traps = Traps::of(module)?;
    if traps.types.is_empty() {
        return Ok(module.to_vec());
    }
    let mut changed = Module::new();
    traps.parse_core_module(&mut changed, Parser::new(0), module)?;
    Ok(changed.finish())
}

/// The functions of a module before and after.
struct Traps {
    /// The new index of each imported function.
    imports: Vec<u32>,
    /// The types of the missing functions, in the order of their new indices.
    types: Vec<u32>,
}

impl Traps {
    fn of(module: &[u8]) -> Result<Traps, Error> {
        let (mut missing, mut defined) = (Vec::new(), 0);
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        if let TypeRef::Func(kind) = import.ty {
                            missing.push((import.module == MISSING).then_some(kind));
                        }
                    }
                }
                Payload::FunctionSection(section) => defined = section.count(),
                _ => {}
            }
        }
        let types: Vec<u32> = missing.iter().copied().flatten().collect();
        let kept = index(missing.len() - types.len());
        let (mut next_kept, mut next_trap) = (0, kept + defined);
        let imports = missing.iter().map(|missing| {
            let next = if missing.is_some() { &mut next_trap } else { &mut next_kept };
            *next += 1;
            *next - 1
        });
        Ok(Traps { imports: imports.collect(), types })
    }
}

/// The format limits numbers of functions to 32 bits.
fn index(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Reencode for Traps {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        let imported = self.imports.get(function as usize).copied();
        Ok(imported.unwrap_or(function - index(self.types.len())))
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        for import in section.into_imports() {
            let import = import?;
            if import.module != MISSING || !matches!(import.ty, TypeRef::Func(_)) {
                utils::parse_import(self, imports, import)?;
            }
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_function_section(self, functions, section)?;
        self.types.iter().for_each(|kind| {
            functions.function(*kind);
        });
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: CodeSectionReader<'_>) -> Result<(), Error> {
        utils::parse_code_section(self, code, section)?;
        for _ in &self.types {
            let mut body = Function::new([]);
            body.instructions().unreachable().end();
            code.function(&body);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_functions_trap_and_all_others_keep_their_callers() {
        let module = wat::parse_str(
            r#"(module
                (import "wasi_snapshot_preview1" "first" (func $first (param i32)))
                (import "env" "missing" (func $missing (param i32) (result i32)))
                (import "wasi_snapshot_preview1" "second" (func $second))
                (table 3 funcref)
                (elem (i32.const 0) $missing $second $defined)
                (func $defined (export "defined") (result i32)
                    call $second
                    (call $first (i32.const 1))
                    (call $missing (i32.const 2)))
                (func $other (export "other") (drop (call $defined))))"#,
        )
        .expect("a module");
        let expected = wat::parse_str(
            r#"(module
                (import "wasi_snapshot_preview1" "first" (func $first (param i32)))
                (import "wasi_snapshot_preview1" "second" (func $second))
                (table 3 funcref)
                (elem (i32.const 0) $missing $second $defined)
                (func $defined (export "defined") (result i32)
                    call $second
                    (call $first (i32.const 1))
                    (call $missing (i32.const 2)))
                (func $other (export "other") (drop (call $defined)))
                (func $missing (param i32) (result i32) unreachable))"#,
        )
        .expect("a module");
        let changed = make_traps(&module).expect("changed");
        wasmparser::validate(&changed).expect("valid");
        let functions = |module: &[u8]| {
            let mut found = Vec::new();
            for payload in Parser::new(0).parse_all(module) {
                match payload.expect("valid") {
                    Payload::ImportSection(section) => {
                        found.extend(section.into_imports().map(|import| format!("{:?}", import.expect("valid").name)));
                    }
                    Payload::CodeSectionEntry(body) => {
                        let operators = body.get_operators_reader().expect("valid");
                        found.push(format!(
                            "{:?}",
                            operators.into_iter().map(|it| it.expect("valid")).collect::<Vec<_>>()
                        ));
                    }
                    _ => {}
                }
            }
            found
        };
        assert_eq!(functions(&changed), functions(&expected));
        assert_eq!(make_traps(&expected).expect("nothing to do"), expected);
    }
}
