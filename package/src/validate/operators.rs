//! The names of WebAssembly operators and the proposals that they belong to.

use wasmparser::Operator;

/// Returns the official name of a proposal if controllers cannot use it.
pub(super) fn refused_proposal(proposal: &str) -> Option<&'static str> {
    Some(match proposal {
        "threads" => "threads",
        "shared_everything_threads" => "shared-everything-threads",
        "gc" => "garbage collection",
        "custom_descriptors" => "custom descriptors",
        "function_references" => "typed function references",
        "exceptions" | "legacy_exceptions" => "exception handling",
        "memory_control" => "memory control",
        "stack_switching" => "stack switching",
        "wide_arithmetic" => "wide arithmetic",
        "relaxed_simd" => "relaxed SIMD",
        _ => return None,
    })
}

macro_rules! define_describe {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        /// Returns the proposal of an operator and the name of its visitor method.
        pub(super) fn describe(operator: &Operator<'_>) -> (&'static str, &'static str) {
            match operator {
                $(Operator::$op { .. } => (stringify!($proposal), stringify!($visit)),)*
                _ => ("unknown", "visit_unknown"),
            }
        }
    };
}
wasmparser::for_each_operator!(define_describe);

/// Converts a visitor method to the text format: `visit_table_set` becomes `table.set`.
pub(super) fn readable(visitor: &str) -> String {
    let name = visitor.trim_start_matches("visit_");
    for prefix in [
        "memory_atomic",
        "atomic",
        "i32_atomic",
        "i64_atomic",
        "table",
        "elem",
        "data",
        "memory",
        "struct",
        "array",
        "ref",
    ] {
        if let Some(rest) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')) {
            return format!("{}.{rest}", prefix.replace('_', "."));
        }
    }
    name.to_string()
}
