//! The languages that controllers are written in, and the toolchains that build them.

use wasmop_package::manifest::{Language, Toolchain};

use crate::error::join_help;
use crate::spelling::nearest;
use crate::toml_file::value::Written;

const LANGUAGES: [(&str, Language); 5] = [
    ("rust", Language::Rust),
    ("go", Language::Go),
    ("python", Language::Python),
    ("javascript", Language::JavaScript),
    ("other", Language::Other),
];
const TOOLCHAINS: [(&str, Toolchain); 4] = [
    ("cargo", Toolchain::Cargo),
    ("go", Toolchain::Go),
    ("tinygo", Toolchain::Tinygo),
    ("component", Toolchain::Component),
];

impl Written for Language {
    const HELP: &'static str = "see docs/wasmop-toml.md";

    fn parse(text: &str) -> Result<Language, String> {
        choose("language", text, &LANGUAGES)
    }
}

impl Written for Toolchain {
    const HELP: &'static str = "see docs/wasmop-toml.md";

    fn parse(text: &str) -> Result<Toolchain, String> {
        choose("toolchain", text, &TOOLCHAINS)
    }
}

fn choose<T: Copy>(what: &str, given: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == given) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let mut help = format!("use one of: {}", names.join(", "));
    if let Some(near) = nearest(given, &names) {
        help = format!("did you mean `{near}`? {help}");
    }
    Err(join_help(&format!("unknown {what} `{given}`"), &help))
}

/// The toolchain of a project that names none.
pub fn default_toolchain(language: Language) -> Toolchain {
    match language {
        Language::Rust => Toolchain::Cargo,
        Language::Go => Toolchain::Go,
        Language::Python | Language::JavaScript | Language::Other => Toolchain::Component,
    }
}

/// The only language that a toolchain builds; `None` for any.
pub fn language_of(toolchain: Toolchain) -> Option<Language> {
    match toolchain {
        Toolchain::Cargo => Some(Language::Rust),
        Toolchain::Go | Toolchain::Tinygo => Some(Language::Go),
        Toolchain::Component => None,
    }
}

/// Whether a toolchain builds a language.
pub fn builds(toolchain: Toolchain, language: Language) -> bool {
    language_of(toolchain).is_none_or(|only| only == language)
}

/// The names of the toolchains that build a language, the default first.
pub fn toolchains_for(language: Language) -> Vec<&'static str> {
    TOOLCHAINS.iter().filter(|(_, it)| builds(*it, language)).map(|(name, _)| *name).collect()
}

/// A language's name in text.
pub fn language_name(language: Language) -> &'static str {
    match language {
        Language::Rust => "Rust",
        Language::Go => "Go",
        Language::Python => "Python",
        Language::JavaScript => "JavaScript",
        Language::Other => "other languages",
    }
}

/// A toolchain's name in `wasmop.toml` and in flags.
pub fn toolchain_name(toolchain: Toolchain) -> &'static str {
    match toolchain {
        Toolchain::Cargo => "cargo",
        Toolchain::Go => "go",
        Toolchain::Tinygo => "tinygo",
        Toolchain::Component => "component",
    }
}
