//! Extracts the metadata of an object or list from JSON that arrives in chunks, without buffering it.
//!
//! ```text
//! {"kind":"…","items":[ … any size … ],"metadata":{"resourceVersion":"8", … }}
//!  └ depth 1: keys are read                        └ depth 2: keys and a few values are read
//! ```
//!
//! Members come in any order: lists of custom resources have `metadata` after `items`. Only a JSON object has metadata.
//! The JSON is not validated otherwise.

/// Keys and values are cut to this length. Names have at most 253 bytes.
const MAX_TOKEN_BYTES: usize = 1024;

/// The metadata read. A value that is too long or not a string is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `metadata.name`
    pub name: Option<String>,
    /// `metadata.namespace`
    pub namespace: Option<String>,
    /// `metadata.uid`
    pub uid: Option<String>,
    /// `metadata.resourceVersion`
    pub resource_version: Option<String>,
    /// Whether `deletionTimestamp` is set.
    pub is_deleting: bool,
    /// Whether `finalizers` has entries.
    pub has_finalizers: bool,
    /// `details.uid` of a Status: the deleted object.
    pub details_uid: Option<String>,
}

/// The parser state between two chunks: a few hundred bytes, for JSON of any size.
#[derive(Debug, Default)]
pub struct MetadataScan {
    /// Open brackets.
    depth: usize,
    in_string: bool,
    /// In a string: the previous byte was a backslash that escapes this one.
    is_escaped: bool,
    /// A key comes next. Maintained only where keys are read.
    at_key: bool,
    section: Option<Section>,
    field: Option<Field>,
    /// The current key or value as JSON.
    token: Vec<u8>,
    found: Metadata,
    /// Nothing more can be found.
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
    /// The metadata found so far.
    pub fn found(&self) -> &Metadata {
        &self.found
    }

    /// Reads the next chunk.
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
                // A string at the top is not an object.
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
            // An object with a UID is not a Status.
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
    fn memory_is_bounded() {
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
