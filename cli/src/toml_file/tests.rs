use std::collections::BTreeMap;

use serde::Deserialize;

use super::value::tables;
use super::*;
use crate::error::problem_and_help;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    flag: Option<bool>,
    count: Option<i64>,
    names: Vec<String>,
    #[serde(deserialize_with = "tables")]
    rules: Vec<Rule>,
    sections: BTreeMap<String, Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rule {
    verb: Option<String>,
}

fn error(text: &str) -> (String, String) {
    let document = Document::parse(Path::new("a.toml"), text, Some("the file"), "docs/a.md").unwrap();
    problem_and_help(&document.read::<File>().unwrap_err().into())
}

#[test]
fn errors_name_file_line_key_table_and_remedy() {
    for (text, problem, help) in [
        (
            "\nflg = true",
            "a.toml:2: unknown key `flg` in the file",
            "did you mean `flag`? known keys in the file: flag",
        ),
        (
            "flag = 1",
            "a.toml:1: `flag` in the file: expected `true` or `false`, found a value of type integer",
            "give `",
        ),
        ("count = \"1\"", "`count` in the file: expected a number, found a value of type string", "give a number"),
        ("names = \"a\"", "`names` in the file: expected a list of strings", "give a list of strings"),
        ("names = [\n\"a\",\n1]", "a.toml:3: `names` in the file: expected a string", "give a string"),
        ("rules = 1", "`rules` in the file: expected a list of tables, `[[rules]]`", "`[[rules]]`"),
        ("[[rules]]\n[[rules]]\nverb = 1", "a.toml:3: `verb` in [[rules]]: expected a string", "give a string"),
        ("[[rules]]\nverbs = 1", "a.toml:2: unknown key `verbs` in [[rules]]", "did you mean `verb`?"),
        ("[sections.a]\n[sections.b]\nx = 1", "a.toml:3: unknown key `x` in [sections.b]", "known keys"),
        ("[sections]\na = 1", "a.toml:2: `a` in [sections]: expected a table, `[sections.a]`", "`[sections.a]`"),
        ("sections.\"1\".verb = 1", "a.toml:1: `verb` in [sections.1]: expected a string", "give"),
    ] {
        let (found, remedy) = error(text);
        assert!(found.starts_with(problem) || found.contains(problem), "{text}: {found}");
        assert!(remedy.contains(help), "{text}: {remedy}");
    }
}

#[test]
fn a_path_has_the_place_of_its_value_or_of_the_table_around_it() {
    let text = "\n[a]\nb = 1\n[[c]]\n[[c]]\nd = 1\n";
    let document = Document::parse(Path::new("a.toml"), text, None, "docs/a.md").unwrap();
    for (path, place) in [
        (&[][..], "a.toml:1"),
        (&["a"], "a.toml:2"),
        (&["a", "b"], "a.toml:3"),
        (&["a", "gone"], "a.toml:2"),
        (&["c", "[1]", "d"], "a.toml:6"),
        (&["c", "[1]", "gone"], "a.toml:5"),
    ] {
        assert_eq!(document.place(path), place, "{path:?}");
    }
    let (problem, help) = problem_and_help(&document.missing(&["c", "[1]", "e"], "x").into());
    assert_eq!((&*problem, &*help), ("a.toml:5: `e` is missing in [[c]]", "add `e = \"x\"`"));
    let (problem, _) = problem_and_help(&document.unknown_key(&["a"], &["b"]).into());
    assert_eq!(problem, "a.toml:2: unknown section `a`");
}
