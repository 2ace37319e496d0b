//! Memory images: the section of a package and the base image of a host.

use std::cell::RefCell;

use tempfile::NamedTempFile;
use wasmop_package::MemoryImage;

use crate::host::snapshot::BaseImage;
use crate::host::snapshot::disk::Disk;
use crate::host::snapshot::format::{FileKind, ImageHeader, data_offset, prefix};

/// Maps at most this many bytes of memory per input.
const MAX_MEMORY: u64 = 1 << 20;

thread_local! {
    static FILE: RefCell<Option<NamedTempFile>> = const { RefCell::new(None) };
}

pub fn target(data: &[u8]) {
    if let Ok(image) = MemoryImage::parse(data) {
        let mut end = 0;
        for (offset, run) in image.runs() {
            assert!(offset >= end && !run.is_empty());
            end = offset + run.len() as u64;
        }
        assert!(end <= image.size);
    }
    open(data, 0);
    // Mutations break the checksum. Add a valid prefix to reach the checks behind it.
    if let Ok(header) = ImageHeader::decode(data)
        && header.memory_size <= MAX_MEMORY
    {
        let length = data_offset(data.len()) + header.memory_size;
        open(&[&prefix(FileKind::Base, 0, data, 0, None)[..], data].concat(), length);
    }
}

/// Opens a base image from a file with these contents, extended by zeros to `length`.
fn open(contents: &[u8], length: u64) {
    FILE.with_borrow_mut(|file| {
        let file = file.get_or_insert_with(|| NamedTempFile::new().expect("a temporary file"));
        std::fs::write(file.path(), contents).expect("a temporary file is writable");
        file.as_file().set_len(length.max(contents.len() as u64)).expect("a temporary file can grow");
        let Ok(image) = BaseImage::open(&Disk::default(), file.path()) else { return };
        assert_eq!(image.size(), image.header.memory_size);
        let mut page = vec![0; 4096];
        for number in 0..image.pages() {
            image.read_page(number, &mut page).expect("every page is in the file");
        }
    });
}
