//! Tests the line numbers of traps with generated DWARF, in which every instruction of a function has its own line.

use wasmparser::{Operator, Parser, Payload};
use wasmtime::WasmBacktrace;

use crate::harness::{World, controller, instantiate, package_of};

const FIRST_LINE: u32 = 100;

/// Returns the addresses of the instructions of the function with an `unreachable`, and the index of that instruction.
///
/// As in DWARF, addresses are relative to the content of the code section.
fn addresses(core: &[u8]) -> (Vec<u32>, usize) {
    let mut code_start = 0;
    for payload in Parser::new(0).parse_all(core) {
        match payload.unwrap() {
            Payload::CodeSectionStart { range, .. } => code_start = range.start,
            Payload::CodeSectionEntry(body) => {
                let operators: Vec<_> =
                    body.get_operators_reader().unwrap().into_iter_with_offsets().map(Result::unwrap).collect();
                if let Some(trap) = operators.iter().position(|(op, _)| matches!(op, Operator::Unreachable)) {
                    return (operators.iter().map(|(_, offset)| (offset - code_start) as u32).collect(), trap);
                }
            }
            _ => {}
        }
    }
    panic!("no trap in the module");
}

/// Returns DWARF 4 sections (see 6.2 and 7) with one compile unit, one file and one sequence.
fn dwarf(addresses: &[u32]) -> [(&'static str, Vec<u8>); 3] {
    let with_length = |content: Vec<u8>| [&(content.len() as u32).to_le_bytes()[..], &content].concat();
    // compile_unit without children: stmt_list sec_offset, low_pc addr, high_pc data4
    let abbrev = vec![1, 0x11, 0, 0x10, 0x17, 0x11, 0x01, 0x12, 0x06, 0, 0, 0];
    let end = addresses[addresses.len() - 1] + 1;
    let mut info = vec![4, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
    info.extend_from_slice(&addresses[0].to_le_bytes());
    info.extend_from_slice(&(end - addresses[0]).to_le_bytes());

    let mut header = vec![1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0];
    header.extend_from_slice(b"guest.wat\0\0\0\0\0");
    let mut line = vec![4, 0];
    line.extend(with_length(header));
    line.extend([0, 5, 2]); // set_address
    line.extend(addresses[0].to_le_bytes());
    line.extend([3, (FIRST_LINE - 1) as u8 | 0x80, 0, 1]); // advance_line (signed LEB128), copy
    for pair in addresses.windows(2) {
        line.extend([2, (pair[1] - pair[0]) as u8, 3, 1, 1]); // advance_pc, advance_line 1, copy
    }
    line.extend([2, 1, 0, 1, 1]); // advance_pc, end_sequence
    [(".debug_abbrev", abbrev), (".debug_info", with_length(info)), (".debug_line", with_length(line))]
}

/// Returns the reported and the correct line of a trap in a controller with `functions` functions.
fn line_of_trap(functions: usize) -> (Option<u32>, u32) {
    let filler = "(func) ".repeat(functions - 2);
    let explode = "(func $explode (drop (i32.const 70000)) nop nop unreachable)";
    let mut core = wat::parse_str(controller(&format!("{filler}{explode}"), "(call $explode)")).unwrap();
    let (addresses, trap) = addresses(&core);
    for (name, content) in dwarf(&addresses) {
        use wasm_encoder::{CustomSection, Encode, Section};
        let section = CustomSection { name: name.into(), data: content.into() };
        core.push(section.id());
        section.encode(&mut core);
    }
    let mut guest = instantiate(&package_of(&core), World::default());
    let error = guest.step().unwrap_err();
    let frame = &error.downcast_ref::<WasmBacktrace>().unwrap().frames()[0];
    assert_eq!(frame.func_name(), Some("explode"));
    (frame.symbols().iter().find_map(|symbol| symbol.line()), FIRST_LINE + trap as u32)
}

#[test]
fn line_numbers_stay_correct() {
    for functions in [2, 100, 123, 128, 300, 16_379] {
        let (found, right) = line_of_trap(functions);
        assert_eq!(found, Some(right), "{functions} functions");
    }
}

/// Four more functions move all addresses by one in this case. A missing line number is better than a wrong one.
#[test]
fn line_numbers_are_dropped_if_the_function_count_grows_by_a_byte() {
    for functions in [124, 127, 16_380, 16_383] {
        assert_eq!(line_of_trap(functions).0, None, "{functions} functions");
    }
}
