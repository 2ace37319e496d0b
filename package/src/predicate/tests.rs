use super::*;

const OLD: &str = r#"{"metadata":{"generation":1,"labels":{"tier":"a"},"name":"x"},"spec":{"replicas":1,"image":"web:1"},
    "status":{"conditions":[{"type":"Ready","status":"False"},{"type":"Old","status":"True"}]}}"#;
const NEW: &str = r#"{"metadata":{"generation":2,"labels":{"tier":"b"},"name":"x"},"spec":{"replicas":3,"image":"web:2"},
    "status":{"conditions":[{"type":"Ready","status":"True"},{"type":"Old","status":"True"}]}}"#;

#[test]
fn expressions_are_evaluated() {
    for (text, expected) in [
        ("true", Ok(true)),
        ("false", Ok(false)),
        ("object.spec != oldObject.spec", Ok(true)),
        ("object.metadata.name != oldObject.metadata.name", Ok(false)),
        ("object.spec.replicas > oldObject.spec.replicas && object.spec.replicas == 3", Ok(true)),
        ("has(object.spec.paused) && object.spec.paused", Ok(false)),
        ("object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')", Ok(true)),
        ("oldObject.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')", Ok(false)),
        ("object.status.conditions.all(c, c.status == 'True')", Ok(true)),
        ("object.status.conditions.exists_one(c, c.type == 'Ready')", Ok(true)),
        ("object.metadata.labels.exists(l, l == 'tier')", Ok(true)),
        ("object.metadata.labels['tier'] in ['a', 'c']", Ok(false)),
        ("'tier' in object.metadata.labels", Ok(true)),
        ("object.spec.image.matches('^web:[0-9]+$')", Ok(true)),
        ("object.spec.image.startsWith('db') ? true : size(object.status.conditions) == 3", Ok(false)),
        ("string(object.spec.replicas) + 'x' == '3x'", Ok(true)),
        ("object.spec.missing == 1", Err(EvaluationError::Failed("No such key: missing".into()))),
        ("object.spec.replicas", Err(EvaluationError::NoBool("a number"))),
        ("object.spec.replicas / 0 == 1", Err(EvaluationError::Failed("division by zero".into()))),
    ] {
        let predicate = Predicate::new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(predicate.passes(NEW, Some(OLD)), expected, "{text}");
    }
}

#[test]
fn old_object_is_null_for_a_new_object() {
    for (text, expected) in [("oldObject == null", true), ("oldObject != null && object.spec != oldObject.spec", false)]
    {
        assert_eq!(Predicate::new(text).unwrap().passes(NEW, None), Ok(expected), "{text}");
    }
}

#[test]
fn invalid_predicates_are_refused_with_their_position() {
    for (text, problem, line, column) in [
        ("objekt.spec == 1", "unknown variable `objekt`", 1, 1),
        ("true &&\n  now() > 1", "unknown function `now`", 2, 6),
        ("object.spec ==", "Syntax error", 1, 15),
        ("", "Syntax error", 1, 1),
        ("object.items.map(i, i.a) == []", "`map` and `filter` are not supported", 1, 17),
        ("object.a.matches(object.b)", "has to be a literal", 1, 17),
        ("object.a.matches('(((a{100}){100}){100})')", "bad pattern", 1, 17),
        ("object.a.matches('(a')", "bad pattern", 1, 17),
        ("@charge(1, 1)", "Syntax error", 1, 1),
    ] {
        let error = Predicate::new(text).expect_err(text);
        assert!(error.problem.contains(problem), "{text}: {error}");
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
    }
}

#[test]
fn long_or_deep_text_is_refused_before_parsing() {
    let long = format!("'{}' == ''", "a".repeat(MAX_TEXT));
    for (text, problem) in [
        (long.as_str(), "are allowed"),
        (&"(".repeat(2000), "opening brackets"),
        (&"[".repeat(100), "opening brackets"),
        (&format!("{}true", "true ? false : ".repeat(100)), "opening brackets"),
        (&format!("true{}", " && true".repeat(200)), ""),
        (&format!("object{}", ".a".repeat(1000)), "levels deep"),
        (&format!("{}1", "1+".repeat(1000)), "levels deep"),
    ] {
        match Predicate::new(text) {
            Ok(_) => assert_eq!(problem, "", "{text}"),
            Err(error) => assert!(error.problem.contains(problem), "{text}: {error}"),
        }
    }
    // The deepest allowed nesting, and operators that the parser handles one at a time.
    for text in [format!("{}true{}", "(".repeat(64), ")".repeat(64)), format!("{}true", "!".repeat(2000))] {
        let _ = Predicate::new(&text);
    }
}

/// An object with a list of `items` numbers and a list of as many words.
fn large(items: usize) -> String {
    let numbers: Vec<_> = (0..items).collect();
    let words: Vec<_> = (0..items).map(|n| format!("word-{n}")).collect();
    serde_json::json!({ "numbers": numbers, "words": words, "text": "a".repeat(items) }).to_string()
}

#[test]
fn expensive_expressions_exceed_the_budget() {
    let object = large(3000);
    let nested = |inner: &str| {
        format!(
            "object.numbers.all(a, object.numbers.all(b, object.numbers.exists(c, {inner}) || true) || true) || true"
        )
    };
    for text in [
        nested("c > 1000000"),
        nested("a + b + c > 1000000"),
        nested("c in object.numbers"),
        nested("object == oldObject"),
        "object.numbers.all(a, object.numbers == oldObject.numbers)".into(),
        "object.words.all(a, !(a + a in object.words))".into(),
        "object.words.all(a, !(object.text + object.text + object.text).contains(a + 'b'))".into(),
        "object.words.all(a, !object.text.matches('(a|aa|aaa)*b$'))".into(),
        "[object, object, object].all(a, [a, a, a].all(b, [b, b, b].all(c, [c, c, c].all(d, d == object))))".into(),
        "object.numbers.all(a, [[object], [object]].size() == 2)".into(),
    ] {
        let predicate = Predicate::new(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let (result, charges) = predicate.metered(&object, Some(&object));
        assert_eq!(result, Err(EvaluationError::Exceeded), "{text}");
        // Every charge is at least this, and a failed charge ends a loop.
        assert!(charges <= BUDGET / 64 + 64, "{text}: {charges} charges");
    }
}

#[test]
fn typical_expressions_stay_within_the_budget() {
    let object = large(300);
    for text in [
        "object.words.exists(w, w == 'word-299')",
        "object.numbers.all(n, n >= 0 && n < 300)",
        "object != oldObject || object.text != oldObject.text || true",
        "object.text.matches('^a+$')",
    ] {
        let predicate = Predicate::new(text).unwrap();
        assert_eq!(predicate.passes(&object, Some(&object)), Ok(true), "{text}");
    }
}

#[test]
fn an_object_that_exceeds_the_budget_is_not_parsed() {
    let object = large(40_000);
    assert_eq!(Predicate::new("true").unwrap().metered(&object, None), (Err(EvaluationError::Exceeded), 1));
}

proptest::proptest! {
    /// Random combinations of tokens are refused or evaluated within the budget.
    #[test]
    fn any_text_is_refused_or_evaluated_within_the_budget(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "object", "oldObject", ".spec", ".words", ".numbers", ".all(x, ", ".exists(y, ", "x", "y", ")", "(", " == ", " && ",
        " || ", "!", "[", "]", "'a'", "1", " in ", "size(", ".matches('a+')", " + ", " ? ", " : ", "{", "}", "has(",
    ]), 0..24)) {
        let object = large(50);
        if let Ok(predicate) = Predicate::new(&pieces.concat()) {
            let (_, charges) = predicate.metered(&object, Some(&object));
            proptest::prop_assert!(charges <= BUDGET / 64 + 64);
        }
    }
}
