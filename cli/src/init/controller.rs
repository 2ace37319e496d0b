//! Which program of a project is the controller: a cargo binary, or a Go main package.

use std::path::{Path, PathBuf};

use anyhow::Result;
use wasmop_package::manifest::Language;

use super::cargo_manifest::{self, Bin, Crate};
use super::go_module::{self, GoModule, package_argument};
use super::tree::{Tree, shown};
use crate::error::failure;
use crate::question;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub language: Option<Language>,
    pub bin: Option<String>,
    pub example: Option<String>,
    pub package: Option<String>,
    /// Whether someone can be asked.
    pub ask: bool,
}

/// The controller's program.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    Rust {
        /// The crate of the binary.
        of: Crate,
        bin: Bin,
        /// A binary of the crate that prints CustomResourceDefinitions.
        generator: Option<Bin>,
    },
    Go {
        module: GoModule,
        /// The directory of the main package, relative to the module's.
        main: PathBuf,
    },
}

/// Finds the controller in the project in `dir`.
pub fn choose(dir: &Path, wanted: &Wanted) -> Result<Choice> {
    match language(dir, wanted)? {
        Language::Rust => rust(dir, wanted),
        _ => go(dir, wanted),
    }
}

fn language(dir: &Path, wanted: &Wanted) -> Result<Language> {
    let has = |name: &str| dir.join(name).is_file();
    let by_flag = match (&wanted.language, wanted.bin.as_ref().or(wanted.example.as_ref()), &wanted.package) {
        (Some(Language::Go), Some(_), _) | (None, Some(_), Some(_)) => {
            return Err(failure("`--bin` and `--example` are for Rust", "for Go use `--package ./cmd/NAME`")
                .usage()
                .into());
        }
        (Some(Language::Rust), _, Some(_)) => {
            return Err(failure("`--package` is for Go", "for Rust use `--bin NAME`").usage().into());
        }
        (Some(language), ..) => Some(*language),
        (None, Some(_), None) => Some(Language::Rust),
        (None, None, Some(_)) => Some(Language::Go),
        (None, None, None) => None,
    };
    let missing = |file: &str| failure(format!("there is no {file} in `{}`", dir.display()), NAME_THE_DIRECTORY);
    match (by_flag, has("Cargo.toml"), has("go.mod")) {
        (Some(Language::Rust), false, _) => Err(missing("Cargo.toml").into()),
        (Some(Language::Go), _, false) => Err(missing("go.mod").into()),
        (Some(language), ..) => Ok(language),
        (None, true, false) => Ok(Language::Rust),
        (None, false, true) => Ok(Language::Go),
        (None, true, true) if wanted.ask => {
            let languages = ["rust", "go"].map(str::to_owned);
            let answer = question::choose("init", "The project has a Cargo.toml and a go.mod. Language", &languages)?;
            Ok([Language::Rust, Language::Go][answer])
        }
        (None, true, true) => {
            let problem = format!("`{}` has a Cargo.toml and a go.mod", dir.display());
            Err(failure(problem, "name the controller's language with `--lang rust` or `--lang go`").usage().into())
        }
        (None, false, false) => Err(missing("Cargo.toml or go.mod").into()),
    }
}

const NAME_THE_DIRECTORY: &str =
    "name the directory of an operator's sources, like `wasmop init DIR`; `wasmop new` makes a new project";

fn rust(dir: &Path, wanted: &Wanted) -> Result<Choice> {
    let crates = cargo_manifest::crates(dir).ok_or_else(|| {
        let problem = format!("`{}` cannot be read as TOML", dir.join("Cargo.toml").display());
        failure(problem, "correct it; `cargo metadata` names the place")
    })?;
    let found = candidates(&crates, wanted);
    let all = |examples: bool| {
        let bins = crates.iter().flat_map(|it| &it.bins).filter(|bin| bin.is_example == examples);
        bins.map(|bin| bin.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let name = wanted.bin.as_ref().or(wanted.example.as_ref());
    let (of, bin) = match (&found[..], name) {
        ([only], _) => *only,
        ([], Some(bin)) => {
            let kind = if wanted.example.is_some() { "example" } else { "binary" };
            let problem = format!("`{}` has no {kind} `{bin}`", dir.display());
            return Err(failure(problem, format!("it has: {}", all(wanted.example.is_some()))).into());
        }
        ([], None) => {
            let problem = format!("`{}` has no binary that may be a controller", dir.display());
            let help = match (all(false).as_str(), all(true).as_str()) {
                ("", "") => "a controller is a program: name the directory of a crate with `src/main.rs`".to_owned(),
                ("", examples) => format!("name an example with `--example NAME`: {examples}"),
                (all, _) => format!("name one with `--bin NAME`: {all}"),
            };
            return Err(failure(problem, help).into());
        }
        (several, _) => {
            let names: Vec<String> = several.iter().map(|(_, bin)| bin.name.clone()).collect();
            let (kind, flag) = match wanted.example {
                Some(_) => ("examples", "--example NAME"),
                None => ("binaries", "--bin NAME"),
            };
            several[one_of(kind, flag, dir, &names, wanted.ask)?]
        }
    };
    let generator =
        of.bins.iter().find(|it| *it != bin && !it.is_example && cargo_manifest::is_crd_generator(&it.name));
    Ok(Choice::Rust { of: of.clone(), bin: bin.clone(), generator: generator.cloned() })
}

/// The binaries that may be the controller: those of the crate in the directory itself, else those of workspace members
/// that use `kube`, else those of any member.
fn candidates<'a>(crates: &'a [Crate], wanted: &Wanted) -> Vec<(&'a Crate, &'a Bin)> {
    let fits = |bin: &Bin| match (&wanted.example, &wanted.bin) {
        (Some(example), _) => bin.is_example && bin.name == *example,
        (None, Some(wanted)) => !bin.is_example && bin.name == *wanted,
        (None, None) => !bin.is_example && !cargo_manifest::is_helper(&bin.name),
    };
    let any = wanted.example.is_none() && wanted.bin.is_none();
    let of = |accept: &dyn Fn(&Crate) -> bool| -> Vec<(&'a Crate, &'a Bin)> {
        let mut found = Vec::new();
        for it in crates.iter().filter(|it| accept(it)) {
            let bins: Vec<&Bin> = it.bins.iter().filter(|bin| fits(bin)).collect();
            let default = bins.iter().find(|bin| it.default_run.as_ref() == Some(&bin.name) && any);
            match default {
                Some(default) => found.push((it, *default)),
                None => found.extend(bins.into_iter().map(|bin| (it, bin))),
            }
        }
        found
    };
    let tiers: [&dyn Fn(&Crate) -> bool; 3] = [&|it| it.dir == Path::new(""), &|it| it.is_controller, &|_| true];
    tiers.iter().map(|tier| of(*tier)).find(|found| !found.is_empty()).unwrap_or_default()
}

fn go(dir: &Path, wanted: &Wanted) -> Result<Choice> {
    let tree = Tree::list(dir);
    let module = go_module::read(&tree).ok_or_else(|| {
        let problem = format!("`{}` has no line `module PATH`", dir.join("go.mod").display());
        failure(problem, "correct it; `go mod edit -json` names the place")
    })?;
    let all = || module.mains.iter().map(|main| package_argument(main)).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = &wanted.package {
        let main = PathBuf::from(wanted.trim_start_matches("./").trim_matches('/'));
        let main = if main == Path::new(".") { PathBuf::new() } else { main };
        // Mains aside, such as tests, may be named, too.
        let is_main = module.mains.contains(&main) || tree.ending(&["go"]).any(|file| file.parent() == Some(&main));
        if !is_main {
            let problem = format!("`{}` has no Go package in `{wanted}`", dir.display());
            return Err(failure(problem, format!("its main packages are: {}", all())).into());
        }
        return Ok(Choice::Go { module, main });
    }
    let main = match module.candidates()[..] {
        [only] => only.to_owned(),
        [] => {
            let problem = format!("`{}` has no main package", dir.display());
            let help = "a controller is a program; if it is in a directory for tests or tools, name it with \
                        `--package ./DIR`";
            return Err(failure(problem, help).into());
        }
        ref several => {
            let names: Vec<String> = several.iter().map(|main| package_argument(main)).collect();
            several[one_of("main packages", "--package DIR", dir, &names, wanted.ask)?].to_owned()
        }
    };
    Ok(Choice::Go { module, main })
}

/// Asks which one, or says how to say it.
fn one_of(what: &str, flag: &str, dir: &Path, names: &[String], ask: bool) -> Result<usize> {
    if ask {
        return question::choose("init", &format!("Which of the {what} is the controller?"), names);
    }
    let problem = format!("`{}` has several {what}: {}", shown(dir), names.join(", "));
    Err(failure(problem, format!("name the controller's with `{flag}`")).usage().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dir: &str, bins: &[&str], is_controller: bool) -> Crate {
        let bin = |name: &&str| Bin { name: (*name).to_owned(), required_features: Vec::new(), is_example: false };
        Crate {
            dir: dir.into(),
            name: "x".into(),
            bins: bins.iter().map(bin).collect(),
            is_controller,
            ..Crate::default()
        }
    }

    #[test]
    fn helpers_and_other_members_are_not_the_controller() {
        let with_default = Crate { default_run: Some("b".into()), ..of("", &["a", "b"], true) };
        for (crates, wanted, expected) in [
            (vec![of("", &["controller", "crdgen"], true)], None, vec!["controller"]),
            (vec![of("", &["controller", "crdgen"], true)], Some("crdgen"), vec!["crdgen"]),
            (vec![of("", &["a", "b"], true)], None, vec!["a", "b"]),
            (vec![with_default.clone()], None, vec!["b"]),
            (vec![with_default], Some("a"), vec!["a"]),
            (vec![of("", &["a"], false), of("crates/b", &["b"], true)], None, vec!["a"]),
            (vec![of("crates/a", &["a"], false), of("crates/b", &["b"], true)], None, vec!["b"]),
            (vec![of("crates/a", &["a"], false), of("crates/b", &["b"], true)], Some("a"), vec!["a"]),
            (vec![of("crates/a", &["a", "xtask"], false)], None, vec!["a"]),
            (vec![of("", &["crdgen"], true)], None, vec![]),
        ] {
            let wanted = Wanted { bin: wanted.map(str::to_owned), ..Wanted::default() };
            let found: Vec<&str> = candidates(&crates, &wanted).iter().map(|(_, bin)| bin.name.as_str()).collect();
            assert_eq!(found, expected, "{crates:?}");
        }
    }
}
