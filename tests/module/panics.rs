//! Where the module could panic, as far as the linked file shows: every panic carries the place in the
//! source that it comes from, and code that can panic refers to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use wasmparser::{DataKind, Operator, Parser, Payload};

use crate::host::path;

/// How many places there may be: in this project, in the SDK, in all else. Who lowers one lowers the number; who adds
/// one says what it is. Those here are borrows of a `RefCell`, none of which outlives a statement that
/// could borrow again, a cut of a text that is ASCII by then, and log lines, which carry their place in the
/// source in the same way and do not panic. Here is src/ and crates/.
const OURS: usize = 45;
const OF_THE_SDK: usize = 21;
/// Of these, 18 are in `serde_json` and `serde`, which look for a line and a column in the text of an error; 10 in the
/// search of the standard library that they use for it; 9 in `base64`, which is given slices of the length that it wants.
const OTHERS: usize = 72;

/// File, and how many places of it code refers to.
fn places() -> BTreeMap<String, usize> {
    let wasm = fs::read(path()).expect("a file");
    let (memory, constants) = read(&wasm);
    let mut places = BTreeMap::new();
    for start in constants {
        if let Some(file) = location(&memory, start) {
            *places.entry(file).or_default() += 1;
        }
    }
    places
}

/// The initial memory, and every number that code has.
fn read(wasm: &[u8]) -> (Vec<u8>, BTreeSet<usize>) {
    let (mut memory, mut constants) = (Vec::new(), BTreeSet::new());
    let address = |operator: Operator| match operator {
        Operator::I32Const { value } => usize::try_from(value).ok(),
        _ => None,
    };
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.expect("a valid module") {
            Payload::DataSection(segments) => {
                for segment in segments {
                    let segment = segment.expect("a segment");
                    let DataKind::Active { offset_expr, .. } = segment.kind else {
                        continue;
                    };
                    let offset = offset_expr
                        .get_operators_reader()
                        .read()
                        .expect("an offset");
                    let start = address(offset).expect("a constant");
                    memory.resize(memory.len().max(start + segment.data.len()), 0);
                    memory[start..][..segment.data.len()].copy_from_slice(segment.data);
                }
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader().expect("code") {
                    constants.extend(address(operator.expect("an operator")));
                }
            }
            _ => {}
        }
    }
    (memory, constants)
}

/// The file of a `core::panic::Location`, if there is one: name and length, line and column.
fn location(memory: &[u8], start: usize) -> Option<String> {
    let word = |index: usize| {
        let word = memory.get(start + 4 * index..)?.first_chunk()?;
        Some(u32::from_le_bytes(*word) as usize)
    };
    let (name, length) = (word(0)?, word(1)?);
    let is_place = (1..20_000).contains(&word(2)?) && (1..500).contains(&word(3)?);
    let name = memory.get(name..)?.get(..length)?;
    let name = std::str::from_utf8(name).ok()?;
    (is_place && name.ends_with(".rs")).then(|| name.to_owned())
}

#[test]
fn become_fewer() {
    let (mut ours, mut of_the_sdk, mut others) = (0, 0, 0);
    for (file, count) in places() {
        println!("{count:4} {file}");
        let group = match file {
            file if file.starts_with("src/") || file.starts_with("crates/") => &mut ours,
            file if file.contains("proxy-wasm-") => &mut of_the_sdk,
            _ => &mut others,
        };
        *group += count;
    }
    println!("{ours} here, {of_the_sdk} in the SDK, {others} elsewhere");
    assert!(
        ours > 0 && of_the_sdk > 0 && others > 0,
        "the test does not see them"
    );
    assert!(ours <= OURS, "{ours} places here");
    assert!(of_the_sdk <= OF_THE_SDK, "{of_the_sdk} places in the SDK");
    assert!(others <= OTHERS, "{others} places elsewhere");
}
