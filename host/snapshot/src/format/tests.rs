use proptest::prelude::*;

use super::*;

fn header() -> StateHeader {
    let mut header = StateHeader {
        digest: [7; 32],
        base_generation: 3,
        base_sum: 99,
        memory_size: 10 * WASM_PAGE,
        globals: vec![1, u64::MAX, 0],
        wall_ns: 1_790_000_000_000_000_000,
        monotonic_ns: 42,
        expected: Vec::new(),
        touched: vec![PageRun { page: 0, count: 3 }],
        known: vec![(4, 1 << 100), (7, 8)],
        extents: Vec::new(),
        sums: Vec::new(),
        aead_tags: Vec::new(),
        host_state: vec![1, 2, 3],
    };
    header.set_pages(&pages(), false);
    header
}

fn pages() -> Vec<SavedPage> {
    let at = |page, slot| SavedPage { page, slot, sum: u128::from(page) << 70, aead: AeadTag::default() };
    vec![
        at(1, 6),
        at(2, 7),
        at(3, 9),
        SavedPage { page: 5, ..SavedPage::default() },
        SavedPage { page: 6, ..SavedPage::default() },
        at(9, 10),
    ]
}

/// The bytes of a header in a file.
fn encoded(header: &StateHeader, seq: u64) -> Vec<u8> {
    let body = header.encode();
    [&prefix(FileKind::State, seq, &body, 0, None)[..], &body].concat()
}

fn decode(bytes: &[u8]) -> Result<(StateHeader, Prefix), FormatError> {
    let prefix = Prefix::read(FileKind::State, bytes)?;
    let body = bytes[PREFIX_LEN..].get(..prefix.header_len).ok_or(FormatError::Header("short"))?;
    prefix.check(bytes, body)?;
    Ok((StateHeader::decode(body)?, prefix))
}

#[test]
fn header_round_trips() {
    let (found, prefix) = decode(&encoded(&header(), 17)).unwrap();
    assert_eq!((&found, prefix.seq, prefix.encrypted), (&header(), 17, false));
    assert_eq!(found.pages(), pages());
    let extents: Vec<_> = found.extents.iter().map(|e| (e.page, e.count, e.slot)).collect();
    assert_eq!(extents, [(1, 2, 6), (3, 1, 9), (5, 2, 0), (9, 1, 10)]);
}

#[test]
fn encrypted_pages_round_trip() {
    let aead = |n: u8| AeadTag { nonce: [n; 12], tag: [n; 16] };
    let encrypted: Vec<_> = pages()
        .into_iter()
        .map(|p| SavedPage { aead: if p.slot == 0 { AeadTag::default() } else { aead(p.page as u8) }, ..p })
        .collect();
    let mut header = header();
    header.set_pages(&encrypted, true);
    let (found, _) = decode(&encoded(&header, 1)).unwrap();
    assert_eq!(found.pages(), encrypted);
}

#[test]
fn damaged_or_foreign_header_is_refused_with_a_reason() {
    let good = encoded(&header(), 1);
    let with = |at: usize, byte: u8| {
        let mut b = good.clone();
        b[at] = byte;
        decode(&b).unwrap_err()
    };
    assert_eq!(with(0, b'X'), FormatError::Magic);
    assert_eq!(with(8, 9), FormatError::Version(9));
    assert_eq!(with(17, 1), FormatError::HeaderChecksum);
    assert_eq!(with(33, good[33] ^ 1), FormatError::HeaderChecksum);
    assert_eq!(with(70, good[70] ^ 1), FormatError::HeaderChecksum);
    assert_eq!(with(28, 2), FormatError::Header("prefix"));
    assert_eq!(with(24, 1), FormatError::Header("prefix"), "a header cannot lie in a header area's slots");
    assert!(matches!(header().check_digest(&[8; 32]), Err(FormatError::Foreign(_))));
    assert_eq!(Prefix::read(FileKind::Base, &good), Err(FormatError::Magic), "a state file is no base image");
}

#[test]
fn pages_beyond_memory_and_slots_in_header_areas_are_refused() {
    let e = |page, count, slot| Extent { page, count, slot };
    for (extents, reason) in [
        (vec![e(160, 1, 6)], "page runs"),
        (vec![e(3, u32::MAX, 6)], "page runs"),
        (vec![e(5, 2, 6), e(6, 1, 8)], "page runs"),
        (vec![e(1, 0, 6)], "page runs"),
        (vec![e(1, 1, 5)], "slots"),
        (vec![e(1, 2, u32::MAX)], "slots"),
        (vec![e(1, 1, 6)], "checksums"),
    ] {
        let bytes = encoded(&StateHeader { extents: extents.clone(), ..header() }, 0);
        assert_eq!(decode(&bytes).unwrap_err(), FormatError::Header(reason), "{extents:?}");
    }
    let bytes = encoded(&StateHeader { memory_size: 100, ..header() }, 0);
    assert_eq!(decode(&bytes).unwrap_err(), FormatError::Header("memory size"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn every_bit_flip_and_truncation_of_a_header_is_detected(at in 0usize..400, bit in 0u8..8, cut in 0usize..400) {
        let good = encoded(&header(), 7);
        let mut bad = good.clone();
        let at = at % bad.len();
        bad[at] ^= 1 << bit;
        prop_assert!(decode(&bad).is_err());
        let _ = decode(&good[..cut.min(good.len() - 1)]).unwrap_err();
    }

    #[test]
    fn decoders_never_panic_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        let _ = StateHeader::decode(&bytes).map(|h| h.pages().len());
        let _ = ImageHeader::decode(&bytes);
    }
}

#[test]
fn runs_include_short_gaps() {
    let run = |page, count| PageRun { page, count };
    for (pages, gap, expected) in [
        (&[][..], 2, vec![]),
        (&[5], 2, vec![run(5, 1)]),
        (&[1, 2, 3], 0, vec![run(1, 3)]),
        (&[1, 2, 4], 0, vec![run(1, 2), run(4, 1)]),
        (&[1, 4, 8], 2, vec![run(1, 4), run(8, 1)]),
    ] {
        assert_eq!(runs_with_gaps(pages.iter().copied(), gap), expected, "{pages:?} {gap}");
    }
}
