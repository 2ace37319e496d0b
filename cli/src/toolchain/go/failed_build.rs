//! Explains a failed build: which module is in the way, why it cannot work in a guest, which import brings it in, and
//! what to write.

use std::collections::{BTreeMap, VecDeque};

use semver::{Op, Version, VersionReq};

use super::super::advice;
use super::{GoCommand, output_of, port_rules};
use crate::error::failure;
use crate::process::Failed;

/// Explains a failed build of the main package `main` by the module that fails, or by the project's own code.
pub fn explain(go: &GoCommand<'_>, main: &str, error: anyhow::Error) -> anyhow::Error {
    let failed = match error.downcast::<Failed>() {
        Ok(failed) => failed,
        Err(error) => return error,
    };
    let packages = failing_packages(&failed.output);
    let Some(first) = packages.first() else {
        return match help_on_modules(&failed.output) {
            Some((problem, help)) => failure(problem, help).into(),
            None => failed.into(),
        };
    };
    let graph = ImportGraph::of(go, main);
    let Some((path, version)) = graph.module(&first.path) else { return own_code(first) };
    let name = if first.path == path { String::new() } else { format!(" (its package `{}`)", first.path) };
    let known = Version::parse(version.trim_start_matches('v')).ok();
    let rule = advice::on_module(path, known.as_ref());
    let why = rule.map_or_else(|| first.reason(), |rule| rule.why.clone());
    let mut problem = format!("the module `{path}` {version}{name} does not build for WebAssembly: {why}");
    let others: Vec<String> = packages.iter().skip(1).map(|other| format!("`{}`", other.path)).collect();
    if !others.is_empty() {
        problem += &format!("; {} fail, too", others.join(", "));
    }
    let remove = graph.how_to_remove(&first.path);
    let ruled = rules_of(path).filter(|ruled| !ruled.iter().any(|it| known.as_ref().is_some_and(|v| it.matches(v))));
    let help = match (rule, ruled) {
        (Some(rule), _) => {
            let values = [("name", path), ("version", version), ("package", &first.path), ("remove", &remove)];
            rule.remedy(&values)
        }
        (None, Some(ruled)) => {
            let shown: Vec<String> = ruled.iter().map(VersionReq::to_string).collect();
            problem += &format!("; wasmop has port rules for its versions {}", shown.join(" and "));
            match ruled.iter().filter_map(lowest).max() {
                Some(version) => {
                    format!("`go mod edit -replace={path}={path}@v{version} && go mod tidy`; otherwise {remove}")
                }
                None => remove,
            }
        }
        (None, None) => {
            if rules_of(path).is_none() {
                problem += "; wasmop has no port rule for it";
            }
            remove
        }
    };
    failure(problem, help).into()
}

/// What to do if go cannot load the modules of a project, and what is wrong, by go's messages.
pub fn help_on_modules(output: &str) -> Option<(String, String)> {
    let line = |texts: &[&str]| output.lines().find(|line| texts.iter().any(|text| line.contains(text)));
    if let Some(line) = line(&["requires go >= "]) {
        let wanted = line.split_once("requires go >= ").map_or("", |(_, rest)| rest);
        let wanted = wanted.split([' ', ')', ';']).next().unwrap_or_default();
        return Some((
            format!("the project needs Go {wanted}, and this is another one: {}", line.trim_start_matches("go: ")),
            format!(
                "install Go {wanted} or later (https://go.dev/doc/install), or let go fetch it: `GOTOOLCHAIN=auto wasmop build`"
            ),
        ));
    }
    if let Some(line) = line(&["inconsistent vendoring"]) {
        return Some((format!("the vendor directory does not fit go.mod: {line}"), "run `go mod vendor`".to_owned()));
    }
    if let Some(line) = line(&[" Forbidden", " Not Found", " Gone", "dial tcp", "unknown revision", "invalid version"])
    {
        let line = line.trim_start_matches("go: ").trim();
        let module = line.split([' ', '\t']).map(|word| word.trim_end_matches(':')).find(|word| word.contains('@'));
        let module = module.unwrap_or("a module");
        return Some((
            format!("the module {module} cannot be downloaded: {line}"),
            "check GOPROXY, GOPRIVATE and the network with `go mod download`; `go get MODULE@VERSION` selects a version that the proxy has"
                .to_owned(),
        ));
    }
    let line = line(&[
        "missing go.sum entry",
        "no required module provides",
        "updates to go.mod needed",
        "no such file or directory",
    ])?;
    Some((format!("go.mod or go.sum is incomplete: {}", line.trim()), "run `go mod tidy`".to_owned()))
}

/// The versions of a module for which there are port rules; `None` without any.
fn rules_of(module: &str) -> Option<Vec<VersionReq>> {
    let rules = port_rules::all().unwrap_or_default();
    let versions = rules.into_iter().filter(|rule| rule.module.as_deref() == Some(module)).filter_map(|it| it.versions);
    Some(versions.collect::<Vec<_>>()).filter(|versions| !versions.is_empty())
}

/// The lowest version that a requirement allows.
fn lowest(requirement: &VersionReq) -> Option<Version> {
    let first = requirement.comparators.iter().find(|it| matches!(it.op, Op::GreaterEq | Op::Exact))?;
    Some(Version::new(first.major, first.minor.unwrap_or(0), first.patch.unwrap_or(0)))
}

fn own_code(package: &FailedPackage<'_>) -> anyhow::Error {
    failure(
        format!("the package `{}` does not compile; the compiler's messages are above", package.path),
        "correct them; code for native programs only goes in files with the line `//go:build !wasip1`",
    )
    .into()
}

/// A package in the compiler's messages.
#[derive(Debug, PartialEq)]
struct FailedPackage<'a> {
    path: String,
    messages: Vec<&'a str>,
}

const EXCLUDED: &str = ": build constraints exclude all Go files";
const RELOCATION: &str = "relocation target ";

/// The packages in the output of `go build`, in its order.
fn failing_packages(output: &str) -> Vec<FailedPackage<'_>> {
    let mut packages: Vec<FailedPackage<'_>> = Vec::new();
    let package = |path: &str| FailedPackage { path: path.to_owned(), messages: Vec::new() };
    for line in output.lines() {
        if let Some(header) = line.strip_prefix("# ") {
            packages.push(package(header.split(' ').next().unwrap_or(header)));
        } else if let Some((_, target)) = line.split_once(RELOCATION) {
            // The linker's messages follow a header with the main package: `a/b.F: relocation target c/d.G not defined`.
            let symbol = target.split(' ').next().unwrap_or(target);
            let dir = symbol.rfind('/').map_or(0, |at| at + 1);
            let end = symbol[dir..].find('.').map_or(symbol.len(), |at| dir + at);
            let mut found = package(&symbol[..end].replace("%2e", "."));
            found.messages.push(line);
            packages.insert(0, found);
            break;
        } else if let Some((before, _)) = line.split_once(EXCLUDED) {
            // `package a`, `\timports b`, `\timports c: build constraints exclude all Go files in …`
            let mut found = package(before.split_whitespace().last().unwrap_or(before));
            found.messages.push(line);
            packages.push(found);
        } else if let Some(last) = packages.last_mut() {
            last.messages.push(line);
        }
    }
    packages
}

impl FailedPackage<'_> {
    /// Why it cannot be compiled, from the first message that says so.
    fn reason(&self) -> String {
        let all = || self.messages.iter();
        if all().any(|line| line.contains(EXCLUDED)) {
            return "all of its files are for other systems, or need cgo".to_owned();
        }
        if let Some((_, symbol)) = all().find_map(|line| line.split_once(RELOCATION)) {
            let symbol = symbol.split(' ').next().unwrap_or(symbol);
            return format!("`{symbol}` is written in assembler or C");
        }
        let undefined = all().find_map(|line| Some(line.split_once("undefined: ")?.1.trim()));
        match undefined {
            Some(name) if ["syscall.", "unix.", "windows."].iter().any(|it| name.starts_with(it)) => {
                format!("it uses `{name}` of an operating system, and a controller does not run on one")
            }
            Some(name) => format!("it defines `{name}` only for other systems"),
            None => "the compiler's messages are above".to_owned(),
        }
    }
}

/// Which package imports which, as the compiler sees them.
#[derive(Debug, Default)]
struct ImportGraph {
    packages: BTreeMap<String, Node>,
    /// The main package.
    main: String,
}

#[derive(Debug, Default)]
struct Node {
    /// The module and its version, of a dependency.
    module: Option<(String, String)>,
    imports: Vec<String>,
}

impl ImportGraph {
    /// Reads the packages that `main` consists of. It is empty if they cannot be listed.
    fn of(go: &GoCommand<'_>, main: &str) -> ImportGraph {
        let mut list = go.command();
        list.env("GOOS", "wasip1").env("GOARCH", "wasm").args(["list", "-deps", "-e", "-f"]);
        list.arg("{{.ImportPath}}|{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}|{{join .Imports \" \"}}");
        ImportGraph::parse(&output_of(list.arg(main)).unwrap_or_default())
    }

    fn parse(text: &str) -> ImportGraph {
        let mut graph = ImportGraph::default();
        for line in text.lines() {
            let mut fields = line.split('|');
            let (Some(path), Some(module), Some(imports)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let module = module.split_once(' ').map(|(path, version)| (path.to_owned(), version.to_owned()));
            let imports = imports.split(' ').filter(|it| !it.is_empty()).map(str::to_owned).collect();
            graph.packages.insert(path.to_owned(), Node { module, imports });
            // Dependencies come first.
            path.clone_into(&mut graph.main);
        }
        graph
    }

    /// The module of a dependency's package, and its version.
    fn module(&self, package: &str) -> Option<(&str, &str)> {
        let (path, version) = self.packages.get(package)?.module.as_ref()?;
        Some((path, version))
    }

    /// A shortest chain of imports from the main package to `package`.
    fn chain(&self, package: &str) -> Vec<&str> {
        let mut importers: BTreeMap<&str, &str> = BTreeMap::new();
        let mut next = VecDeque::from([self.main.as_str()]);
        while let Some(path) = next.pop_front() {
            if path == package {
                let mut chain = vec![path];
                while let Some(&importer) = importers.get(chain[chain.len() - 1]) {
                    chain.push(importer);
                }
                chain.reverse();
                return chain;
            }
            for import in self.packages.get(path).into_iter().flat_map(|node| &node.imports) {
                if import != &self.main && !importers.contains_key(import.as_str()) {
                    importers.insert(import, path);
                    next.push_back(import);
                }
            }
        }
        Vec::new()
    }

    /// What to write in the project, so that it does not have the package.
    fn how_to_remove(&self, package: &str) -> String {
        let chain = self.chain(package);
        let is_own = |path: &&&str| self.packages.get(**path).is_some_and(|node| node.module.is_none());
        let own = chain.iter().take_while(is_own).count();
        let (Some(importer), Some(import)) = (own.checked_sub(1).map(|at| chain[at]), chain.get(own)) else {
            return format!(
                "remove the import that brings it in; `GOOS=wasip1 GOARCH=wasm go list -deps` lists `{package}`"
            );
        };
        let needs = match chain.len() - own {
            0 | 1 => String::new(),
            _ => format!(", which needs it ({})", chain[own..].join(" → ")),
        };
        format!(
            "`{importer}` imports `{import}`{needs}: move what uses it to a file with the line `//go:build !wasip1`, or remove it"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(output: &str) -> Vec<String> {
        failing_packages(output).into_iter().map(|package| package.path).collect()
    }

    #[test]
    fn failed_packages_are_found_in_gos_output() {
        for (output, packages) in [
            (
                "go: downloading x v1\n# github.com/sirupsen/logrus\nterminal.go:13:10: undefined: isTerminal\n",
                vec!["github.com/sirupsen/logrus"],
            ),
            (
                "# example.com/web [example.com/web]\n./main.go:3:1: syntax error\n# b\nb.go\n",
                vec!["example.com/web", "b"],
            ),
            (
                "package example.com/web\n\timports golang.org/x/sys/unix: build constraints exclude all Go files in /m\n",
                vec!["golang.org/x/sys/unix"],
            ),
            (
                "# example.com/web\nexample.com/a/b.(*T).F: relocation target example.com/a/c.sum not defined\n",
                vec!["example.com/a/c", "example.com/web"],
            ),
            ("main.go:5:2: no required module provides package x\n", vec![]),
        ] {
            assert_eq!(failing(output), packages, "{output}");
        }
    }

    #[test]
    fn reasons_say_what_a_guest_lacks() {
        for (message, reason) in [
            ("a.go:1:2: undefined: syscall.Statfs_t", "`syscall.Statfs_t` of an operating system"),
            ("a.go:1:2: undefined: isTerminal", "`isTerminal` only for other systems"),
            ("a.go:1:2: syntax error", "messages are above"),
        ] {
            let output = format!("# a\n{message}\n");
            let reason_of_it = failing_packages(&output)[0].reason();
            assert!(reason_of_it.contains(reason), "{reason_of_it}");
        }
        let reason =
            failing_packages("package a\n\timports c: build constraints exclude all Go files in /m\n")[0].reason();
        assert!(reason.contains("cgo"), "{reason}");
    }

    #[test]
    fn the_chain_of_imports_names_the_line_to_remove() {
        let graph = ImportGraph::parse(
            "c.org/native|c.org v1.2.0|\nb.org/lib|b.org v0.1.0|fmt c.org/native\nexample.com/op/own||b.org/lib\n\
             example.com/op||example.com/op/own fmt\n",
        );
        assert_eq!(graph.module("c.org/native"), Some(("c.org", "v1.2.0")));
        assert_eq!(graph.module("example.com/op/own"), None);
        assert_eq!(graph.chain("c.org/native"), ["example.com/op", "example.com/op/own", "b.org/lib", "c.org/native"]);
        let help = graph.how_to_remove("c.org/native");
        for part in ["`example.com/op/own` imports `b.org/lib`", "b.org/lib → c.org/native", "//go:build !wasip1"] {
            assert!(help.contains(part), "{part}: {help}");
        }
        assert!(graph.how_to_remove("unknown").contains("go list -deps"));
    }

    #[test]
    fn problems_with_modules_have_a_remedy() {
        for (output, problem, help) in [
            (
                "go: go.mod requires go >= 1.27.0 (running go 1.26.8; GOTOOLCHAIN=local)",
                "needs Go 1.27.0",
                "GOTOOLCHAIN=auto",
            ),
            (
                "a.go:26:2: k8s.io/api@v0.1.0: reading https://proxy/k8s.io/api/@v/v0.1.0.zip: 403 Forbidden",
                "module k8s.io/api@v0.1.0 cannot",
                "GOPROXY",
            ),
            ("go: inconsistent vendoring in /op:", "vendor directory", "go mod vendor"),
            ("main.go:5:2: no required module provides package x; to add it:", "incomplete", "go mod tidy"),
        ] {
            let (found_problem, found_help) = help_on_modules(output).expect("known");
            assert!(found_problem.contains(problem) && found_help.contains(help), "{found_problem}: {found_help}");
        }
        assert_eq!(help_on_modules("main.go:1:1: expected 'package'"), None);
    }

    #[test]
    fn the_lowest_version_of_a_requirement_is_known() {
        for (requirement, version) in [(">=1.6, <1.9.4", "1.6.0"), ("=1.5.2", "1.5.2"), (">=0.17", "0.17.0")] {
            let requirement: VersionReq = requirement.parse().expect("parsed");
            assert_eq!(lowest(&requirement).map(|it| it.to_string()).as_deref(), Some(version));
        }
    }
}
