//! The protobuf codecs of `k8s.io/api`: the functions in `generated.pb.go` that encode and decode.
//!
//! They are most of the code of a kind. The methods stay, and return an error. Everything else in the file stays too:
//! `String` shows when a program prints an object.

use std::collections::BTreeSet;

use super::tokens::{Token, tokens};

/// The methods that are replaced: `Marshal` and `MarshalTo` call the first one.
const METHODS: [(&str, &str); 2] =
    [("MarshalToSizedBuffer(dAtA []byte) (int, error) {\n", "0, "), ("Unmarshal(dAtA []byte) error {\n", "")];
/// The import that the replaced methods need.
const FMT: &str = "\tfmt \"fmt\"\n";

/// A `generated.pb.go` whose codecs return an error. `None` if it has another form.
pub fn without_codec(text: &str) -> Option<String> {
    if !text.contains(FMT) {
        return None;
    }
    let mut without = String::with_capacity(text.len() / 2);
    let mut rest = text;
    let mut replaced = 0;
    while let Some(start) = rest.find("\nfunc (m *") {
        let line = start + 1;
        let body = line + rest[line..].find('\n')? + 1;
        let method = METHODS.iter().find(|(method, _)| rest[line..body].ends_with(method));
        let Some((_, zero)) = method else {
            without.push_str(&rest[..body - 1]);
            rest = &rest[body - 1..];
            continue;
        };
        let end = body + rest[body..].find("\n}\n")? + 1;
        without.push_str(&rest[..body]);
        without.push_str(&format!(
            "\treturn {zero}fmt.Errorf(\"wasmop left out the protobuf codec of %T: set `trim = false` under [build] in wasmop.toml\", m)\n"
        ));
        rest = &rest[end..];
        replaced += 1;
    }
    without.push_str(rest);
    (replaced > 0).then(|| without_unused_imports(&without))
}

/// Removes imports that nothing uses any more, which the compiler refuses.
fn without_unused_imports(text: &str) -> String {
    let all = tokens(text);
    let used: BTreeSet<&str> = all
        .windows(2)
        .filter_map(|pair| match pair {
            [Token::Name(name), Token::Other('.')] => Some(*name),
            _ => None,
        })
        .collect();
    let is_unused = |line: &str| {
        let Some((before, path)) = line.trim().strip_suffix('"').and_then(|line| line.split_once('"')) else {
            return false;
        };
        let name = if before.is_empty() { path.rsplit('/').next().unwrap_or(path) } else { before.trim() };
        !matches!(name, "_" | ".") && !used.contains(name)
    };
    let Some((start, end)) =
        text.find("\nimport (\n").and_then(|start| Some((start, start + text[start..].find("\n)")?)))
    else {
        return text.to_owned();
    };
    let kept = text[start..end].split_inclusive('\n').filter(|line| !is_unused(line));
    format!("{}{}{}", &text[..start], kept.collect::<String>().trim_end(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATED: &str = "package v1\n\nimport (\n\tfmt \"fmt\"\n\n\tio \"io\"\n\t\"sort\"\n\tmath_bits \"math/bits\"\n\t_ \"embed\"\n)\n\n\
        func (m *A) Reset() { *m = A{} }\n\n\
        func (m *A) Marshal() (dAtA []byte, err error) {\n\tsize := m.Size()\n}\n\
        func (m *A) MarshalToSizedBuffer(dAtA []byte) (int, error) {\n\tif x {\n\t}\n\treturn math_bits.Len(1), nil\n}\n\n\
        func (this *A) String() string {\n\tsort.Strings(x)\n\treturn \"io.EOF\"\n}\n\
        func (m *A) Unmarshal(dAtA []byte) error {\n\treturn io.EOF\n}\n\
        func skip() {}\n";

    #[test]
    fn codecs_return_an_error_and_the_rest_stays() {
        let text = without_codec(GENERATED).expect("replaced");
        let error = "fmt.Errorf(\"wasmop left out the protobuf codec of %T: set `trim = false` under [build] in wasmop.toml\", m)";
        assert_eq!(
            text,
            format!(
                "package v1\n\nimport (\n\tfmt \"fmt\"\n\n\t\"sort\"\n\t_ \"embed\"\n)\n\n\
                 func (m *A) Reset() {{ *m = A{{}} }}\n\n\
                 func (m *A) Marshal() (dAtA []byte, err error) {{\n\tsize := m.Size()\n}}\n\
                 func (m *A) MarshalToSizedBuffer(dAtA []byte) (int, error) {{\n\treturn 0, {error}\n}}\n\n\
                 func (this *A) String() string {{\n\tsort.Strings(x)\n\treturn \"io.EOF\"\n}}\n\
                 func (m *A) Unmarshal(dAtA []byte) error {{\n\treturn {error}\n}}\n\
                 func skip() {{}}\n"
            )
        );
    }

    #[test]
    fn a_file_of_another_form_stays() {
        for text in ["", "package v1\n", &GENERATED.replace("Unmarshal", "Decode").replace("MarshalTo", "EncodeTo")] {
            assert!(without_codec(text).is_none(), "{text}");
        }
    }
}
