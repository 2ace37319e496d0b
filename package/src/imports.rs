//! The imports of a core module, for toolchains that decide by them.

use wasmparser::{BinaryReaderError, Parser, Payload};

/// The import of a function, a memory or another item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreImport {
    /// The module part of its name.
    pub module: String,
    /// The rest of its name.
    pub name: String,
}

/// Returns the imports of a core module.
///
/// # Errors
///
/// Fails if the module is malformed up to its import section.
pub fn core_imports(wasm: &[u8]) -> Result<Vec<CoreImport>, BinaryReaderError> {
    let mut imports = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::ImportSection(section) = payload? {
            for import in section.into_imports() {
                let import = import?;
                imports.push(CoreImport { module: import.module.to_owned(), name: import.name.to_owned() });
            }
            break;
        }
    }
    Ok(imports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_those_of_the_import_section() {
        let wasm =
            wat::parse_str(r#"(module (import "a" "b" (func)) (import "a" "c" (memory 1)) (func))"#).expect("a module");
        let named = |name: &str| CoreImport { module: "a".to_owned(), name: name.to_owned() };
        assert_eq!(core_imports(&wasm).expect("imports"), [named("b"), named("c")]);
        assert_eq!(core_imports(&wat::parse_str("(module)").expect("a module")).expect("none"), []);
        assert!(core_imports(b"\0asm").is_err());
    }
}
