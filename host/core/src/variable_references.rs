//! References to variables in arguments and in the environment: `$(NAME)`, as in the containers of a Pod.
//!
//! A reference to an unknown variable stays as it is, and so does one of a variable to itself. `$$` stands for `$`.

use std::collections::BTreeMap;

/// Replaces the references in the values of `env` and in `args` by values of `env`.
pub fn expand(env: &mut BTreeMap<String, String>, args: &mut [String]) {
    let written = env.clone();
    for (name, value) in env.iter_mut() {
        *value = expanded(value, &written, &mut vec![name.clone()]);
    }
    for argument in args {
        *argument = expanded(argument, &written, &mut Vec::new());
    }
}

/// `open` has the names of the variables whose values are being expanded.
fn expanded(text: &str, env: &BTreeMap<String, String>, open: &mut Vec<String>) -> String {
    let (mut result, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|it| it.split_once(')'));
        let known = reference.filter(|(name, _)| !open.iter().any(|it| it == name));
        let Some((name, value, after)) = known.and_then(|(name, after)| Some((name, env.get(name)?, after))) else {
            result.push('$');
            continue;
        };
        open.push(name.to_owned());
        result.push_str(&expanded(value, env, open));
        open.pop();
        rest = after;
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_others_stay() {
        let env = [("A", "1"), ("B", "$(A)$(A)"), ("LOOP", "x$(LOOP)"), ("P", "$(Q)"), ("Q", "$(P)"), ("E", "$$(A)")];
        let mut env: BTreeMap<String, String> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for (written, expected) in [
            ("", ""),
            ("--a=$(A)", "--a=1"),
            ("$(B).$(A)", "11.1"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(A)", "$(A)"),
            ("$(A", "$(A"),
            ("5$ $A", "5$ $A"),
            ("$", "$"),
            ("$(E)", "$(A)"),
            ("$(P)", "$(P)"),
        ] {
            let mut args = [written.to_owned()];
            expand(&mut env.clone(), &mut args);
            assert_eq!(args[0], expected, "{written}");
        }
        expand(&mut env, &mut []);
        assert_eq!((env["B"].as_str(), env["LOOP"].as_str(), env["A"].as_str()), ("11", "x$(LOOP)", "1"));
    }
}
