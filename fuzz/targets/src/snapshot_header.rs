//! Headers of snapshots and base images.

use crate::host::snapshot::format::{FileKind, ImageHeader, PREFIX_LEN, Prefix, StateHeader, prefix};

/// Lists the pages of headers with at most this many pages.
const MAX_PAGES: u64 = 1 << 16;

pub fn target(data: &[u8]) {
    for kind in [FileKind::State, FileKind::Base] {
        if let Ok(found) = Prefix::read(kind, data) {
            let end = (PREFIX_LEN + found.header_len).min(data.len());
            let _ = found.check(data, &data[PREFIX_LEN..end]);
        }
        let written = prefix(kind, 7, data, 0, None);
        let read = Prefix::read(kind, &written).expect("a written prefix is valid");
        assert_eq!((read.seq, read.header_len), (7, data.len()));
        read.check(&written, data).expect("a written prefix has a valid checksum");
    }
    // The prefix and the header, and the header alone.
    for body in [data, data.get(PREFIX_LEN..).unwrap_or_default()] {
        if let Ok(header) = StateHeader::decode(body) {
            let count: u64 = header.extents.iter().map(|extent| u64::from(extent.count)).sum();
            if count <= MAX_PAGES {
                let pages = header.pages();
                assert_eq!(pages.len() as u64, count);
                assert!(pages.windows(2).all(|pair| pair[0].page < pair[1].page));
            }
            let again = StateHeader::decode(&header.encode()).expect("a decoded header can be encoded");
            assert_eq!(again.encode(), header.encode());
        }
        if let Ok(header) = ImageHeader::decode(body) {
            assert!(header.data_pages() <= header.memory_size / 4096);
        }
    }
}
