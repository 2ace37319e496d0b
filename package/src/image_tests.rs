use proptest::prelude::*;

use super::*;

fn dense(image: &MemoryImage<'_>) -> Vec<u8> {
    let mut memory = vec![0; image.size as usize];
    for (offset, run) in image.runs() {
        memory[offset as usize..][..run.len()].copy_from_slice(run);
    }
    memory
}

fn built(segments: &[(u32, &[u8])]) -> Vec<u8> {
    let mut builder = ImageBuilder::default();
    for (offset, data) in segments {
        builder.write(*offset, data);
    }
    builder.finish()
}

#[test]
fn an_empty_memory_has_an_image_of_size_zero() {
    let section = built(&[]);
    let image = MemoryImage::parse(&section).unwrap();
    assert_eq!((image.size, image.runs().count()), (0, 0));
}

#[test]
fn zeros_count_toward_the_size_but_are_not_stored() {
    let section = built(&[(10_000, &[0; 100])]);
    let image = MemoryImage::parse(&section).unwrap();
    assert_eq!((image.size, image.stored()), (12_288, 0));
}

#[test]
fn a_byte_at_the_end_of_a_32_bit_memory_costs_one_page() {
    let section = built(&[(u32::MAX, &[7])]);
    let image = MemoryImage::parse(&section).unwrap();
    assert_eq!(image.size, 1 << 32);
    assert_eq!(image.runs().collect::<Vec<_>>(), [(u64::from(u32::MAX), &[7u8][..])]);
    assert_eq!(section.len(), HEADER + RUN_ENTRY + 1);
}

#[test]
fn nearby_runs_are_merged() {
    let section = built(&[(0, &[1]), (9, &[2]), (100, &[3])]);
    let image = MemoryImage::parse(&section).unwrap();
    let runs: Vec<_> = image.runs().collect();
    assert_eq!(runs, [(0, &[1u8, 0, 0, 0, 0, 0, 0, 0, 0, 2][..]), (100, &[3][..])]);
}

#[test]
fn damaged_images_are_refused() {
    let good = built(&[(16, b"hello"), (8000, b"world")]);
    let patched = |at: usize, bytes: &[u8]| {
        let mut section = good.clone();
        section[at..at + bytes.len()].copy_from_slice(bytes);
        section
    };
    let longer = [&good[..], &[0]].concat();
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("empty", vec![], "ends after 0 bytes"),
        ("header cut", good[..20].to_vec(), "ends after 20 bytes"),
        ("magic", patched(0, b"wmxx"), "does not begin with"),
        ("version", patched(4, &[9]), "version 9"),
        ("size not pages", patched(8, &[1]), "not a multiple"),
        ("size too large", patched(12, &[2]), "at most 4 GiB"),
        ("count too large", patched(16, &[255, 255, 255, 255]), "are needed"),
        ("reserved", patched(20, &[1]), "reserved"),
        ("run past the end", patched(24, &[255, 255, 255, 255]), "run 0"),
        ("run out of order", patched(32, &[0, 0]), "run 1"),
        ("empty run", patched(28, &[0]), "run 0"),
        ("bytes missing", good[..good.len() - 1].to_vec(), "are needed"),
        ("bytes left over", longer, "follow the last run"),
    ];
    for (name, section, message) in cases {
        let error = MemoryImage::parse(section).expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
    }
}

proptest! {
    #[test]
    fn images_round_trip(
        segments in prop::collection::vec((0u32..60_000, prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..300)), 0..20)
    ) {
        let mut memory = vec![0u8; 65_536];
        let mut end = 0;
        for (offset, data) in &segments {
            memory[*offset as usize..][..data.len()].copy_from_slice(data);
            end = end.max(*offset as usize + data.len());
        }
        let borrowed: Vec<_> = segments.iter().map(|(offset, data)| (*offset, &data[..])).collect();
        let section = built(&borrowed);
        let image = MemoryImage::parse(&section).unwrap();
        prop_assert_eq!(image.size as usize, end.next_multiple_of(4096));
        prop_assert_eq!(&dense(&image)[..], &memory[..image.size as usize]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), real_header in any::<bool>()) {
        if real_header && bytes.len() >= 8 {
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        }
        if let Ok(image) = MemoryImage::parse(&bytes) {
            for (offset, run) in image.runs() {
                prop_assert!(offset + run.len() as u64 <= image.size);
            }
        }
    }
}
