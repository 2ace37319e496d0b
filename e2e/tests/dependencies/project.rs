//! A project from the template, which a test edits and builds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use wasmop_e2e::guests;
use wasmop_testbed::cargo_variables;

const NAME: &str = "web";

pub struct Project {
    dir: tempfile::TempDir,
    /// The files before the first edit.
    originals: RefCell<BTreeMap<String, String>>,
}

impl Project {
    pub fn rust() -> Project {
        let project = Project::new("rust");
        // The lock file of the conformance guest, so that both builds share their crates.
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/rust/Cargo.lock");
        fs::copy(lock, project.path("Cargo.lock")).expect("copied");
        project
    }

    pub fn go() -> Project {
        Project::new("go")
    }

    fn new(language: &str) -> Project {
        let dir = tempfile::tempdir().expect("a directory");
        let mut new = Command::new(guests::wasmop().expect("is built"));
        new.args(["new", NAME, "--lang", language, "--yes"]).current_dir(dir.path());
        ended(&new.output().expect("it runs"), 0);
        Project { dir, originals: RefCell::default() }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(NAME).join(file)
    }

    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("written");
    }

    /// Replaces `from`, which must occur once.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).expect("is there");
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {file}:\n{text}");
        self.write(file, &text.replace(from, to));
        self.originals.borrow_mut().entry(file.to_owned()).or_insert(text);
    }

    /// Reverts all edits of a file.
    pub fn restore(&self, file: &str) {
        if let Some(text) = self.originals.borrow_mut().remove(file) {
            self.write(file, &text);
        }
    }

    /// Runs the go command.
    pub fn run_go(&self, arguments: &[&str]) {
        let output = Command::new("go").args(arguments).current_dir(self.path("")).output();
        ended(&output.expect("it runs"), 0);
    }

    /// The package that the last build wrote.
    pub fn package(&self) -> Vec<u8> {
        fs::read(self.path("target/wasmop").join(format!("{NAME}.wasm"))).expect("is built")
    }

    /// Checks that the build fails and its last output is `expected`, with `V` for versions.
    pub fn fails_with(&self, arguments: &[&str], expected: &str) {
        let said = ended(&self.build(arguments, &[]), 1);
        let last = said.rfind("error: ").map_or("", |at| &said[at..]);
        assert_eq!(without_versions(last), expected, "{said}");
    }

    /// Checks that the build succeeds, and returns its output.
    pub fn succeeds_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        ended(&self.build(arguments, variables), 0)
    }

    fn build(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut build = Command::new(guests::wasmop().expect("is built"));
        build.arg("build").args(arguments).current_dir(self.path(""));
        cargo_variables::remove(&mut build);
        build.env("CARGO_TARGET_DIR", guests::cargo_target().expect("is known"));
        build.envs(variables.iter().copied()).output().expect("it runs")
    }
}

fn ended(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// An error with `V` in place of versions, except in "before 1.9.4", which is not the version of a dependency.
fn without_versions(text: &str) -> String {
    let is_version = |word: &str| {
        let numbers: Vec<&str> = word.trim_start_matches('v').split('.').collect();
        numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok())
    };
    let mut lines = Vec::new();
    for line in text.lines() {
        let (mut words, mut before) = (Vec::new(), "");
        for word in line.split(' ') {
            let masked = line.starts_with("error: ") && before != "before" && is_version(word);
            words.push(if masked { "V" } else { word });
            before = word;
        }
        lines.push(words.join(" ") + "\n");
    }
    lines.concat()
}
