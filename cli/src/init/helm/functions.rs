//! The functions of Helm's templates that charts of operators use. Others return an unknown value.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::super::yaml;
use super::unknown::{is_unknown, truth, unknown};

/// Calls a function. Functions that need the renderer (`include`, `tpl`) are not here.
pub fn call(name: &str, arguments: &[Value]) -> Value {
    let text = |at: usize| arguments.get(at).map(shown).unwrap_or_default();
    let number = |at: usize| arguments.get(at).and_then(as_integer);
    let last = || arguments.last().cloned().unwrap_or_default();
    match (name, arguments) {
        ("and", _) => choose(arguments, false),
        ("or", _) => choose(arguments, true),
        ("not", [value]) => truth(value).map_or_else(unknown, |it| (!it).into()),
        ("empty", [value]) => truth(value).map_or_else(unknown, |it| (!it).into()),
        ("default", [other, value]) => match truth(value) {
            Some(true) => value.clone(),
            Some(false) => other.clone(),
            None => unknown(),
        },
        ("default", [other]) => other.clone(),
        ("coalesce", _) => arguments.iter().find(|value| truth(value) != Some(false)).cloned().unwrap_or(Value::Null),
        ("ternary", [yes, no, condition]) => match truth(condition) {
            Some(true) => yes.clone(),
            Some(false) => no.clone(),
            None => unknown(),
        },
        ("required", [_, value]) if value.is_null() => unknown(),
        ("required", [_, value]) | ("deepCopy", [value]) => value.clone(),
        ("set" | "unset", [fields, ..]) => fields.clone(),
        ("fail", _) => Value::Null,
        // What a cluster has is not known, and charts take an empty answer for that.
        ("lookup", _) => Value::Object(Map::new()),

        ("eq" | "ne" | "lt" | "le" | "gt" | "ge", [first, rest @ ..]) => compare(name, first, rest),
        ("contains", [part, _]) => known(arguments, || text(1).contains(&shown(part)).into()),
        ("hasPrefix", [part, _]) => known(arguments, || text(1).starts_with(&shown(part)).into()),
        ("hasSuffix", [part, _]) => known(arguments, || text(1).ends_with(&shown(part)).into()),
        ("has", [item, Value::Array(items)]) => known(arguments, || items.contains(item).into()),
        ("hasKey", [Value::Object(fields), key]) => fields.contains_key(&shown(key)).into(),
        ("kindIs" | "typeIs", [kind, value]) => match is_unknown(value) {
            true => unknown(),
            false => (shown(kind) == kind_of(value)).into(),
        },

        ("quote", _) => joined(arguments, |text| format!("{text:?}")),
        ("squote", _) => joined(arguments, |text| format!("'{text}'")),
        ("toString" | "print", _) => joined(arguments, |text| text.to_owned()),
        ("trim", [_]) => text(0).trim().into(),
        ("lower", [_]) => map_known(&text(0), str::to_lowercase),
        ("upper", [_]) => map_known(&text(0), str::to_uppercase),
        ("trimSuffix", [end, _]) => text(1).strip_suffix(&shown(end)).map_or_else(last, Value::from),
        ("trimPrefix", [start, _]) => text(1).strip_prefix(&shown(start)).map_or_else(last, Value::from),
        ("trimAll", [cut, _]) => text(1).trim_matches(|c| shown(cut).contains(c)).into(),
        ("trunc", [_, value]) if is_unknown(value) => value.clone(),
        ("trunc", [_, _]) => truncated(&text(1), number(0).unwrap_or_default()),
        ("replace", [old, new, _]) => text(2).replace(&shown(old), &shown(new)).into(),
        ("printf", [format, rest @ ..]) => formatted(&shown(format), rest),
        ("indent" | "nindent", [_, _]) => {
            let indent = " ".repeat(number(0).unwrap_or_default().clamp(0, 64) as usize);
            let start = if name == "nindent" { "\n" } else { "" };
            format!("{start}{indent}{}", text(1).replace('\n', &format!("\n{indent}"))).into()
        }
        ("toYaml", [value]) => serde_norway::to_string(value).map_or_else(|_| unknown(), |it| it.trim_end().into()),
        ("toJson" | "toRawJson", [value]) => value.to_string().into(),
        ("fromYaml", [_]) => yaml::parse(&text(0)).unwrap_or_else(|_| unknown()),
        ("fromJson" | "mustFromJson", [_]) => serde_json::from_str(&text(0)).unwrap_or_else(|_| unknown()),
        ("int" | "int64", [value]) => known(arguments, || as_integer(value).unwrap_or_default().into()),

        ("list" | "tuple", _) => arguments.into(),
        ("dict", _) => {
            let pairs = arguments.chunks(2);
            let pairs = pairs.map(|pair| (shown(&pair[0]), pair.get(1).cloned().unwrap_or_default()));
            Value::Object(pairs.collect())
        }
        ("get", [fields, key]) => fields.get(shown(key)).cloned().unwrap_or_else(|| "".into()),
        ("dig", [keys @ .., default, fields]) => {
            let found = keys.iter().try_fold(fields, |value, key| value.get(shown(key)));
            found.unwrap_or(default).clone()
        }
        ("index", [value, keys @ ..]) => keys.iter().fold(value.clone(), |value, key| item(&value, key)),
        ("first", [Value::Array(items)]) => items.first().cloned().unwrap_or_default(),
        ("last", [Value::Array(items)]) => items.last().cloned().unwrap_or_default(),
        ("len", [value]) if !is_unknown(value) => match value {
            Value::Array(items) => items.len().into(),
            Value::Object(fields) => fields.len().into(),
            value => shown(value).len().into(),
        },
        ("concat", _) => arguments.iter().flat_map(|list| list.as_array().cloned().unwrap_or_default()).collect(),
        ("append" | "push", [Value::Array(items), item]) => [&items[..], std::slice::from_ref(item)].concat().into(),
        ("join", [separator, Value::Array(items)]) => {
            items.iter().map(shown).collect::<Vec<_>>().join(&shown(separator)).into()
        }
        ("splitList", [separator, _]) => {
            text(1).split(&shown(separator)).map(str::to_owned).collect::<Vec<String>>().into()
        }
        ("uniq", [value]) | ("sortAlpha", [value]) => value.clone(),
        ("keys", [Value::Object(fields)]) => fields.keys().cloned().collect::<Vec<String>>().into(),
        ("omit", [Value::Object(fields), keys @ ..]) => {
            let keys: Vec<String> = keys.iter().map(shown).collect();
            let kept = fields.iter().filter(|(key, _)| !keys.contains(key));
            Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        ("merge" | "mustMerge", [first, rest @ ..]) => {
            // Earlier arguments take precedence.
            let later = rest.iter().rev().cloned().reduce(|below, above| merged(&below, &above)).unwrap_or_default();
            merged(&later, first)
        }
        ("mergeOverwrite" | "mustMergeOverwrite", [first, rest @ ..]) => {
            rest.iter().fold(first.clone(), |below, above| merged(&below, above))
        }
        _ => unknown(),
    }
}

/// A field of a map or an item of a list.
pub fn item(value: &Value, key: &Value) -> Value {
    match (value, key) {
        (Value::Array(items), key) => {
            as_integer(key).and_then(|at| items.get(usize::try_from(at).ok()?)).cloned().unwrap_or_default()
        }
        (value, _) if value.is_string() && is_unknown(value) => unknown(),
        (value, key) => value.get(shown(key)).cloned().unwrap_or_default(),
    }
}

/// A value as templates print it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

/// `and` returns the first false argument, `or` the first true one; both else the last. An unknown argument leaves the
/// result open unless a later one decides it.
fn choose(arguments: &[Value], wanted: bool) -> Value {
    let mut open = false;
    for value in arguments {
        match truth(value) {
            Some(truth) if truth == wanted => return value.clone(),
            Some(_) => {}
            None => open = true,
        }
    }
    if open { unknown() } else { arguments.last().cloned().unwrap_or_default() }
}

/// `result` if no argument is unknown.
fn known(arguments: &[Value], result: impl FnOnce() -> Value) -> Value {
    if arguments.iter().any(is_unknown) { unknown() } else { result() }
}

/// Changes a text unless it has the mark in it.
fn map_known(text: &str, change: impl FnOnce(&str) -> String) -> Value {
    if is_unknown(&text.into()) { text.into() } else { change(text).into() }
}

fn compare(name: &str, first: &Value, rest: &[Value]) -> Value {
    if is_unknown(first) || rest.iter().any(is_unknown) {
        return unknown();
    }
    let same = |other: &Value| match (first.as_f64(), other.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => first == other,
    };
    let order = rest.first().and_then(|other| match (first.as_f64(), other.as_f64()) {
        (Some(a), Some(b)) => a.partial_cmp(&b),
        _ => Some(shown(first).cmp(&shown(other))),
    });
    let result = match name {
        "eq" => rest.iter().any(same),
        "ne" => !rest.iter().any(same),
        "lt" => order.is_some_and(|it| it.is_lt()),
        "le" => order.is_some_and(|it| it.is_le()),
        "gt" => order.is_some_and(|it| it.is_gt()),
        _ => order.is_some_and(|it| it.is_ge()),
    };
    result.into()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

fn joined(arguments: &[Value], show: impl Fn(&str) -> String) -> Value {
    let texts = arguments.iter().filter(|value| !value.is_null()).map(|value| show(&shown(value)));
    texts.collect::<Vec<_>>().join(" ").into()
}

fn as_integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Bool(value) => Some(i64::from(*value)),
        value => value.as_i64().or(value.as_f64().map(|it| it as i64)),
    }
}

fn truncated(text: &str, length: i64) -> Value {
    let count = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
    let skipped = if length < 0 { text.chars().count().saturating_sub(count) } else { 0 };
    text.chars().skip(skipped).take(count).collect::<String>().into()
}

/// `printf` with `%s`, `%d`, `%v`, `%q` and `%%`.
fn formatted(format: &str, arguments: &[Value]) -> Value {
    let mut text = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        // Flags and widths are rare, and are ignored.
        match chars.by_ref().find(|c| c.is_ascii_alphabetic() || *c == '%') {
            Some('%') | None => text.push('%'),
            Some('q') => {
                let _ = write!(text, "{:?}", arguments.next().map(shown).unwrap_or_default());
            }
            Some(_) => text.push_str(&arguments.next().map(shown).unwrap_or_default()),
        }
    }
    text.into()
}

/// `above` over `below`, in all depths.
fn merged(below: &Value, above: &Value) -> Value {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            let mut fields = below.clone();
            for (key, value) in above {
                let value = fields.get(key).map_or_else(|| value.clone(), |below| merged(below, value));
                fields.insert(key.clone(), value);
            }
            Value::Object(fields)
        }
        (below, Value::Null) => below.clone(),
        _ => above.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn functions_return_what_helm_returns() {
        for (name, arguments, expected) in [
            ("and", json!([true, "", "x"]), json!("")),
            ("or", json!([false, "x"]), json!("x")),
            ("not", json!([0]), json!(true)),
            ("default", json!(["a", ""]), json!("a")),
            ("default", json!(["a", "b"]), json!("b")),
            ("ternary", json!(["a", "b", false]), json!("b")),
            ("eq", json!([1, 1.0]), json!(true)),
            ("ne", json!(["a", "b"]), json!(true)),
            ("gt", json!([2, 1]), json!(true)),
            ("quote", json!(["a\"b", null]), json!("\"a\\\"b\"")),
            ("trunc", json!([3, "abcd"]), json!("abc")),
            ("trunc", json!([-3, "abcd"]), json!("bcd")),
            ("trimSuffix", json!(["-", "a-"]), json!("a")),
            ("trimSuffix", json!(["-", "a"]), json!("a")),
            ("replace", json!(["+", "_", "1+2"]), json!("1_2")),
            ("printf", json!(["%s-%d%%", "a", 2]), json!("a-2%")),
            ("nindent", json!([2, "a\nb"]), json!("\n  a\n  b")),
            ("toYaml", json!([{"b": [1], "a": "x"}]), json!("a: x\nb:\n- 1")),
            ("index", json!([{"a": [1, 2]}, "a", 1]), json!(2)),
            ("dig", json!(["a", "b", "none", {"a": {}}]), json!("none")),
            ("join", json!([",", ["a", 1]]), json!("a,1")),
            ("merge", json!([{"a": 1}, {"a": 2, "b": 3}]), json!({"a": 1, "b": 3})),
            ("mergeOverwrite", json!([{"a": 1}, {"a": 2, "b": 3}]), json!({"a": 2, "b": 3})),
            ("omit", json!([{"a": 1, "b": 2}, "a"]), json!({"b": 2})),
            ("kindIs", json!(["bool", true]), json!(true)),
        ] {
            assert_eq!(call(name, arguments.as_array().expect("a list")), expected, "{name} {arguments}");
        }
    }

    #[test]
    fn an_unknown_argument_makes_the_result_unknown_unless_another_decides() {
        let unknown = unknown();
        for (name, arguments, decided) in [
            ("and", vec![unknown.clone(), false.into()], Some(json!(false))),
            ("and", vec![unknown.clone(), true.into()], None),
            ("or", vec![unknown.clone(), true.into()], Some(json!(true))),
            ("eq", vec![unknown.clone(), "a".into()], None),
            ("not", vec![unknown.clone()], None),
            ("default", vec!["a".into(), unknown.clone()], None),
            ("printf", vec!["x-%s".into(), unknown.clone()], None),
            ("lower", vec![unknown.clone()], None),
            ("noSuchFunction", vec![], None),
        ] {
            let result = call(name, &arguments);
            match decided {
                Some(expected) => assert_eq!(result, expected, "{name}"),
                None => assert!(is_unknown(&result), "{name}: {result}"),
            }
        }
    }
}
