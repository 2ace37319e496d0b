//! Finds the metadata of an object or a list in the pieces of its JSON, and keeps nothing else.
//!
//! ```text
//! {"kind":"…","items":[ … any size … ],"metadata":{"resourceVersion":"8", … }}
//!  └ depth 1: keys are read                        └ depth 2: keys and a few values are read
//! ```
//!
//! Members come in any order: lists of custom resources have `metadata` after `items`. Anything but
//! a JSON object has no metadata. The JSON is not validated otherwise.

/// A key or value with more bytes is cut. Names have at most 253.
const MAX_TOKEN_BYTES: usize = 1024;

/// What is read of an object or a list. A value that is no string, or too long, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    /// There is a `deletionTimestamp`.
    pub is_deleting: bool,
    /// `finalizers` is neither null nor empty.
    pub has_finalizers: bool,
    /// `details.uid` of a Status: the object that was deleted.
    pub details_uid: Option<String>,
}

/// The state between two pieces. A few hundred bytes, however large the JSON is.
#[derive(Debug, Default)]
pub struct MetadataScan {
    /// Brackets that are open.
    depth: usize,
    in_string: bool,
    /// The byte before, in a string, was a backslash that escapes this one.
    is_escaped: bool,
    /// A key comes next. Only kept up to date where keys are read.
    at_key: bool,
    section: Option<Section>,
    field: Option<Field>,
    /// The key or value that is being read, as JSON.
    token: Vec<u8>,
    found: Metadata,
    /// All that can be found was found.
    is_over: bool,
}

/// A member of the outermost object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Metadata,
    Details,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Name,
    Namespace,
    Uid,
    ResourceVersion,
    DeletionTimestamp,
    Finalizers,
    DetailsUid,
}

impl Field {
    fn of(section: Section, key: &[u8]) -> Option<Field> {
        Some(match (section, key) {
            (Section::Metadata, b"\"name\"") => Field::Name,
            (Section::Metadata, b"\"namespace\"") => Field::Namespace,
            (Section::Metadata, b"\"uid\"") => Field::Uid,
            (Section::Metadata, b"\"resourceVersion\"") => Field::ResourceVersion,
            (Section::Metadata, b"\"deletionTimestamp\"") => Field::DeletionTimestamp,
            (Section::Metadata, b"\"finalizers\"") => Field::Finalizers,
            (Section::Details, b"\"uid\"") => Field::DetailsUid,
            _ => return None,
        })
    }
}

impl MetadataScan {
    /// What the pieces so far have said.
    pub fn found(&self) -> &Metadata {
        &self.found
    }

    /// Reads the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.is_over {
                return;
            }
            self.on_byte(*byte);
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        let Metadata { name, namespace, uid, resource_version, details_uid, .. } = &self.found;
        let strings = [name, namespace, uid, resource_version, details_uid];
        self.token.capacity() + strings.into_iter().flatten().map(String::capacity).sum::<usize>()
    }

    fn on_byte(&mut self, byte: u8) {
        if self.in_string {
            self.in_string = byte != b'"' || self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            if self.field.is_some() || self.reads_key() {
                self.keep(byte);
            }
            return;
        }
        let reads_members = self.depth == 1 || self.depth == 2 && self.section.is_some();
        match byte {
            b'"' => {
                // No object begins with a string.
                self.is_over = self.depth == 0;
                self.in_string = true;
                if self.field.is_some() || self.reads_key() {
                    self.keep(byte);
                }
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(byte),
            b':' if reads_members && self.at_key => {
                self.at_key = false;
                match self.section.filter(|_| self.depth == 2) {
                    Some(section) => self.field = Field::of(section, &self.token),
                    None => {
                        self.section = match &*self.token {
                            b"\"metadata\"" => Some(Section::Metadata),
                            b"\"details\"" => Some(Section::Details),
                            _ => None,
                        }
                    }
                }
                self.token.clear();
            }
            b',' if reads_members => {
                self.take_value();
                self.at_key = true;
                if self.depth == 1 {
                    self.section = None;
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if self.depth == 0 => self.is_over = true,
            _ if self.field.is_some() => self.keep(byte),
            _ => {}
        }
    }

    fn open(&mut self, bracket: u8) {
        self.depth += 1;
        match self.depth {
            1 => {
                self.is_over = bracket == b'[';
                self.at_key = true;
            }
            2 if bracket == b'[' => self.section = None,
            2 => self.at_key = self.section.is_some(),
            _ if self.field.is_some() => self.keep(bracket),
            _ => {}
        }
    }

    fn close(&mut self, bracket: u8) {
        if self.depth == 2 && self.section.is_some() {
            self.take_value();
            self.at_key = false;
            // An object that says who it is: it is no Status.
            self.is_over = self.found.uid.is_some();
        } else if self.depth > 2 && self.field.is_some() {
            self.keep(bracket);
        }
        self.depth = self.depth.saturating_sub(1);
        self.is_over |= self.depth == 0;
    }

    fn reads_key(&self) -> bool {
        self.at_key && (self.depth == 1 || self.depth == 2 && self.section.is_some())
    }

    fn keep(&mut self, byte: u8) {
        if self.token.len() < MAX_TOKEN_BYTES {
            self.token.push(byte);
        }
    }

    /// The value of the field is complete.
    fn take_value(&mut self) {
        if let Some(field) = self.field.take() {
            let text = || serde_json::from_slice::<Option<String>>(&self.token).ok().flatten();
            match field {
                Field::Name => self.found.name = text(),
                Field::Namespace => self.found.namespace = text(),
                Field::Uid => self.found.uid = text(),
                Field::ResourceVersion => self.found.resource_version = text(),
                Field::DeletionTimestamp => self.found.is_deleting = self.token != b"null",
                Field::Finalizers => self.found.has_finalizers = self.token != b"null" && self.token != b"[]",
                Field::DetailsUid => self.found.details_uid = text(),
            }
        }
        self.token.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(pieces: &[&[u8]]) -> MetadataScan {
        let mut scan = MetadataScan::default();
        pieces.iter().for_each(|piece| scan.push(piece));
        scan
    }

    #[test]
    fn metadata_is_found_wherever_it_is_and_however_it_is_cut() {
        let version = |version: &str| Metadata { resource_version: Some(version.into()), ..Metadata::default() };
        let object =
            Metadata { name: Some("x".into()), namespace: Some("a".into()), uid: Some("u\"1".into()), ..version("8") };
        let table = [
            (r#"{"metadata":{"resourceVersion":"8"},"items":[{"metadata":{"resourceVersion":"3"}}]}"#, version("8")),
            (r#"{"items":[{"metadata":{"resourceVersion":"3"}},{}],"metadata":{"resourceVersion":"8"}}"#, version("8")),
            (r#" { "metadata" : { "resourceVersion" : "8" , "x" : null } } "#, version("8")),
            (
                r#"{"metadata":{"labels":{"uid":"no"},"name":"x","namespace":"a","uid":"u\"1","resourceVersion":"8"}}"#,
                object.clone(),
            ),
            // Keys and brackets in strings, and escaped quotes.
            (r#"{"a":"\"},\"metadata\":{\"uid\":\"no\"","metadata":{"resourceVersion":"8"}}"#, version("8")),
            (r#"{"a":"\\","metadata":{"x":"}","resourceVersion":"8"}}"#, version("8")),
            (
                r#"{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["a/b"]}}"#,
                Metadata { is_deleting: true, has_finalizers: true, ..Metadata::default() },
            ),
            (r#"{"metadata":{"deletionTimestamp":null,"finalizers":[ ]}}"#, Metadata::default()),
            (r#"{"metadata":{"finalizers":null,"resourceVersion":8}}"#, Metadata::default()),
            (
                r#"{"kind":"Status","metadata":{},"details":{"name":"x","uid":"u1"},"code":200}"#,
                Metadata { details_uid: Some("u1".into()), ..Metadata::default() },
            ),
            (r#"{"spec":{"metadata":{"uid":"no"}},"metadata":null,"details":[{"uid":"no"}]}"#, Metadata::default()),
            (r#"[{"metadata":{"uid":"no"}}]"#, Metadata::default()),
            (r#""{"metadata":{"uid":"no"}}"#, Metadata::default()),
            ("", Metadata::default()),
            // Protobuf that has JSON in it.
            ("k8s\0{\"metadata\":{\"uid\":\"no\"}}", Metadata::default()),
        ];
        for (json, expected) in table {
            assert_eq!(scan(&[json.as_bytes()]).found(), &expected, "{json}");
            for at in 0..json.len() {
                let (first, second) = json.as_bytes().split_at(at);
                assert_eq!(scan(&[first, second]).found(), &expected, "{json} cut at {at}");
            }
        }
    }

    #[test]
    fn nothing_large_is_kept() {
        let large = "x".repeat(64 << 10);
        let mut scan = MetadataScan::default();
        scan.push(b"{\"");
        for piece in
            [large.as_str(), "\":{\"metadata\":\"", &large, "\"},\"metadata\":{\"annotations\":{\"a\":\"", &large]
        {
            scan.push(piece.as_bytes());
        }
        for piece in ["\"},\"uid\":\"", &large, "\",\"finalizers\":[\"", &large, "\"],\"resourceVersion\":\"8\"}}"] {
            scan.push(piece.as_bytes());
        }
        let expected = Metadata { resource_version: Some("8".into()), has_finalizers: true, ..Metadata::default() };
        assert_eq!(scan.found(), &expected);
        assert!(scan.bytes() < 4 * MAX_TOKEN_BYTES, "{} bytes", scan.bytes());
    }
}
