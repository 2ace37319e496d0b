//! Names for the Events that `kube::runtime::events::Recorder` creates.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Kubernetes allows at most this many bytes in the name of an object.
const MAX_NAME: usize = 253;

/// Generates a unique name for an Event about the object named `about`.
///
/// Natively the recorder makes names unique with a timestamp. In a host the clock does not advance during a step, so
/// two Events of one step would have the same name.
pub fn generate(about: &str) -> String {
    // Each `RandomState` has different keys.
    with_suffix(about, RandomState::new().hash_one(0_u8))
}

/// `about` can be any text. For example, names of roles contain colons, and names of nodes can have 253 bytes.
fn with_suffix(about: &str, suffix: u64) -> String {
    let suffix = format!("{suffix:016x}");
    let mut name = String::new();
    for c in about.chars().map(|c| c.to_ascii_lowercase()) {
        if name.len() + 1 + suffix.len() >= MAX_NAME {
            break;
        }
        let c = if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        // Labels between dots must begin and end with a letter or a digit.
        let at_label_start = name.is_empty() || name.ends_with('.');
        match c {
            '.' => {
                name.truncate(name.trim_end_matches('-').len());
                if !name.is_empty() && !name.ends_with('.') {
                    name.push('.');
                }
            }
            '-' if at_label_start => {}
            c => name.push(c),
        }
    }
    name.truncate(name.trim_end_matches(['-', '.']).len());
    if name.is_empty() { suffix } else { format!("{name}.{suffix}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_valid_for_any_object_name() {
        let long = "a".repeat(300);
        let table = [
            ("web", "web.000000000000002a"),
            ("web-1.example", "web-1.example.000000000000002a"),
            ("system:node", "system-node.000000000000002a"),
            ("System:Node", "system-node.000000000000002a"),
            ("a--b", "a--b.000000000000002a"),
            ("-.a-.-b..c.", "a.b.c.000000000000002a"),
            ("größe", "gr--e.000000000000002a"),
            ("日本", "000000000000002a"),
            ("", "000000000000002a"),
            (&long, &format!("{}.000000000000002a", &long[..236])),
        ];
        for (about, expected) in table {
            let name = with_suffix(about, 42);
            assert_eq!(name, expected, "{about}");
            assert!(name.len() <= MAX_NAME, "{about}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = (0..1000).map(|_| generate("web")).collect();
        assert_eq!(names.len(), 1000);
    }
}
