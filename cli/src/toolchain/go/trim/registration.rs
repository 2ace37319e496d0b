//! The registration of a package's kinds: `register.go` of the packages in `k8s.io/api`.

/// The opening of the call that registers the package's own types.
const CALL: &str = "scheme.AddKnownTypes(";
const GROUP_VERSION: &str = "SchemeGroupVersion";
/// Says that `runtime` and `scheme` are what they look like.
const FUNCTION: &str = "func addKnownTypes(scheme *runtime.Scheme) error {";
const IMPORT: &str = "\t\"k8s.io/apimachinery/pkg/runtime\"\n";

/// The replacement of a registration.
pub struct Replaced {
    /// The text of `register.go`.
    pub text: String,
    /// The text of another file of the package, which names the list of each kind.
    pub lists: String,
}

/// Replaces the registration in the `register.go` of the package `path`. `None` if it has another form.
pub fn replace(path: &str, text: &str) -> Option<Replaced> {
    if !text.contains(FUNCTION) || !text.contains(IMPORT) {
        return None;
    }
    let package = text.lines().find_map(|line| line.strip_prefix("package "))?;
    let mut calls = text.match_indices(CALL).filter_map(|(start, _)| {
        let arguments = start + CALL.len();
        let end = arguments + text[arguments..].find(')')?;
        Some((start, end + 1, kinds(&text[arguments..end])?))
    });
    let (start, end, kinds) = calls.next()?;
    if calls.next().is_some() {
        return None;
    }
    let names: String = kinds.iter().map(|kind| format!(", {kind:?}")).collect();
    let call = format!("runtime.WasmopAddKinds(scheme, {GROUP_VERSION}, {path:?}, wasmopListOf{names})");
    Some(Replaced { text: format!("{}{call}{}", &text[..start], &text[end..]), lists: lists(package, &kinds) })
}

/// The types of the arguments of a call, `SchemeGroupVersion, &A{}, &B{}`. `None` if they have another form.
fn kinds(arguments: &str) -> Option<Vec<&str>> {
    let mut arguments = arguments.split(',').map(str::trim).filter(|argument| !argument.is_empty());
    if arguments.next()? != GROUP_VERSION {
        return None;
    }
    let kind = |argument: &'_ str| {
        let start = argument.len() - argument.strip_prefix('&')?.len();
        let kind = argument[start..].strip_suffix("{}")?;
        kind.chars().all(|c| c.is_ascii_alphanumeric()).then_some(start..start + kind.len())
    };
    arguments.map(|argument| kind(argument).map(|range| &argument[range])).collect()
}

/// A file in which each kind mentions its list. So the linker keeps the list if it keeps the kind, as an informer needs.
fn lists(package: &str, kinds: &[&str]) -> String {
    let mut text = format!(
        "package {package}\n\n\
         import \"k8s.io/apimachinery/pkg/runtime\"\n\n\
         type wasmopListed interface{{ wasmopList() runtime.Object }}\n\n\
         func wasmopListOf(object runtime.Object) runtime.Object {{\n\
         \tif listed, ok := object.(wasmopListed); ok {{\n\
         \t\treturn listed.wasmopList()\n\
         \t}}\n\
         \treturn nil\n\
         }}\n"
    );
    for kind in kinds {
        let list = format!("{kind}List");
        if kinds.contains(&&*list) {
            text.push_str(&format!("\nfunc (*{kind}) wasmopList() runtime.Object {{ return &{list}{{}} }}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `register.go` with this body of the function.
    fn register(body: &str) -> String {
        format!("package v1\n\nimport (\n\tmetav1 \"x\"\n{IMPORT})\n\n{FUNCTION}\n{body}\treturn nil\n}}\n")
    }

    #[test]
    fn kinds_are_registered_by_name_and_mention_their_lists() {
        let text = register(
            "\tscheme.AddKnownTypes(SchemeGroupVersion,\n\t\t&Pod{},\n\t\t&PodList{},\n\t\t&Scale{},\n\t)\n\tscheme.AddKnownTypes(SchemeGroupVersion, &metav1.Status{})\n",
        );
        let replaced = replace("k8s.io/api/core/v1", &text).expect("replaced");
        let call = "\truntime.WasmopAddKinds(scheme, SchemeGroupVersion, \"k8s.io/api/core/v1\", wasmopListOf, \"Pod\", \"PodList\", \"Scale\")\n\tscheme.AddKnownTypes(SchemeGroupVersion, &metav1.Status{})\n";
        assert_eq!(replaced.text, register(call));
        assert!(replaced.lists.starts_with("package v1\n"));
        let methods: Vec<&str> = replaced.lists.lines().filter(|line| line.starts_with("func (")).collect();
        assert_eq!(methods, ["func (*Pod) wasmopList() runtime.Object { return &PodList{} }"]);
    }

    #[test]
    fn a_registration_of_another_form_stays() {
        for body in [
            "",
            "\tscheme.AddKnownTypes(schema.GroupVersion{}, &Pod{})\n",
            "\tscheme.AddKnownTypes(SchemeGroupVersion, types...)\n",
            "\tscheme.AddKnownTypes(SchemeGroupVersion, &Pod{}, &Other{A: 1})\n",
            "\tscheme.AddKnownTypes(SchemeGroupVersion, &Pod{}, // why\n\t\t&PodList{})\n",
            "\tscheme.AddKnownTypes(SchemeGroupVersion, &A{})\n\tscheme.AddKnownTypes(SchemeGroupVersion, &B{})\n",
        ] {
            assert!(replace("k8s.io/api/core/v1", &register(body)).is_none(), "{body}");
        }
        let text = register("\tscheme.AddKnownTypes(SchemeGroupVersion, &Pod{})\n");
        assert!(replace("p", &text).is_some());
        assert!(replace("p", &text.replace(IMPORT, "\truntime \"other\"\n")).is_none());
    }
}
