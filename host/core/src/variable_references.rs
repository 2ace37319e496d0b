//! References to variables in arguments and in the environment: `$(NAME)`, as in the containers of a Pod.
//!
//! A reference to an unknown variable stays as it is, and so does one of a variable to itself. `$$` stands for `$`.
//! References to references grow exponentially, and a package may be hostile. So their depth and all values together have
//! limits, beyond which references stay as they are.

use std::collections::BTreeMap;

/// The bytes of all values that replace references, and one for each reference.
const MAX_BYTES: usize = 1 << 20;
/// References within the values of references.
const MAX_DEPTH: usize = 32;

/// Replaces the references in the values of `env` and in `args` by values of `env`.
pub fn expand(env: &mut BTreeMap<String, String>, args: &mut [String]) {
    let written = env.clone();
    let mut left = MAX_BYTES;
    for (name, value) in env.iter_mut() {
        *value = expanded(value, &written, &mut vec![name.clone()], &mut left);
    }
    for argument in args {
        *argument = expanded(argument, &written, &mut Vec::new(), &mut left);
    }
}

/// `open` has the names of the variables whose values are being expanded, `left` what remains of [`MAX_BYTES`].
fn expanded(text: &str, env: &BTreeMap<String, String>, open: &mut Vec<String>, left: &mut usize) -> String {
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
        let is_allowed = |name: &str| open.len() < MAX_DEPTH && !open.iter().any(|it| it == name);
        let known = reference.filter(|(name, _)| is_allowed(name));
        let found = known.and_then(|(name, after)| {
            let value = env.get(name)?;
            Some((name, value, after, left.checked_sub(value.len() + 1)?))
        });
        let Some((name, value, after, remaining)) = found else {
            result.push('$');
            continue;
        };
        *left = remaining;
        open.push(name.to_owned());
        result.push_str(&expanded(value, env, open, left));
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

    #[test]
    fn references_that_double_at_each_level_end_at_the_limit() {
        for leaf in ["", "some text"] {
            let level = |n: u32| (format!("V{n}"), if n == 0 { leaf.into() } else { format!("$(V{0})$(V{0})", n - 1) });
            let mut env: BTreeMap<String, String> = (0..60).map(level).collect();
            let mut args = ["$(V59)".to_owned()];
            expand(&mut env, &mut args);
            let bytes: usize = env.values().chain(&args).map(String::len).sum();
            // Each reference that stays is in a value that was charged.
            assert!(bytes <= 2 * MAX_BYTES, "{bytes} bytes of {leaf:?}");
        }
    }

    #[test]
    fn long_chains_of_references_end_at_the_depth() {
        let chain = |n: u32| (format!("V{n}"), format!("$(V{})", n + 1));
        let mut env: BTreeMap<String, String> = (0..1_000).map(chain).collect();
        let mut args = ["$(V0)".to_owned()];
        expand(&mut env, &mut args);
        assert_eq!(args[0], "$(V32)");
    }
}
