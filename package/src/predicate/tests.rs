use super::*;

const OLD: &str = r#"{"metadata":{"generation":1,"labels":{"tier":"a"},"name":"x"},"spec":{"replicas":1,"image":"web:1"},
    "status":{"conditions":[{"type":"Ready","status":"False"},{"type":"Old","status":"True"}]}}"#;
const NEW: &str = r#"{"metadata":{"generation":2,"labels":{"tier":"b"},"name":"x"},"spec":{"replicas":3,"image":"web:2"},
    "status":{"conditions":[{"type":"Ready","status":"True"},{"type":"Old","status":"True"}]}}"#;

#[test]
fn an_expression_says_what_counts() {
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
fn a_new_object_has_been_null() {
    for (text, expected) in [("oldObject == null", true), ("oldObject != null && object.spec != oldObject.spec", false)]
    {
        assert_eq!(Predicate::new(text).unwrap().passes(NEW, None), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_predicate_is_refused_with_its_place() {
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
fn text_that_is_too_long_or_too_deep_is_refused_before_it_is_parsed() {
    let long = format!("'{}' == ''", "a".repeat(MAX_TEXT));
    for (text, problem) in [
        (long.as_str(), "are allowed"),
        (&"(".repeat(2000), "opening brackets"),
        (&"[".repeat(100), "opening brackets"),
        (&format!("{}true", "true ? false : ".repeat(100)), "opening brackets"),
        (&format!("true{}", " && true".repeat(200)), ""),
        (&format!("object{}", ".a".repeat(1000)), "within each other"),
        (&format!("{}1", "1+".repeat(1000)), "within each other"),
    ] {
        match Predicate::new(text) {
            Ok(_) => assert_eq!(problem, "", "{text}"),
            Err(error) => assert!(error.problem.contains(problem), "{text}: {error}"),
        }
    }
    // As deep as it may be, and of operators that the parser takes one at a time.
    for text in [format!("{}true{}", "(".repeat(64), ")".repeat(64)), format!("{}true", "!".repeat(2000))] {
        let _ = Predicate::new(&text);
    }
}

/// An object with a list of so many numbers and one of as many words.
fn large(items: usize) -> String {
    let numbers: Vec<_> = (0..items).collect();
    let words: Vec<_> = (0..items).map(|n| format!("word-{n}")).collect();
    serde_json::json!({ "numbers": numbers, "words": words, "text": "a".repeat(items) }).to_string()
}

#[test]
fn no_expression_does_more_than_it_may() {
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
        // Nothing is charged less than this, and a failed charge ends a loop.
        assert!(charges <= BUDGET / 64 + 64, "{text}: {charges} charges");
    }
}

#[test]
fn what_is_usual_stays_within_bounds() {
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
fn an_object_that_is_too_large_to_be_read_is_not() {
    let object = large(40_000);
    assert_eq!(Predicate::new("true").unwrap().metered(&object, None), (Err(EvaluationError::Exceeded), 1));
}

proptest::proptest! {
    /// A text of pieces of expressions is refused or evaluated, within bounds.
    #[test]
    fn any_text_is_refused_or_ends(pieces in proptest::collection::vec(proptest::sample::select(vec![
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
