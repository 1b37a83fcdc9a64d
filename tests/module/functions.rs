//! The size of the largest function: the memory that a VM takes to compile the module follows it.

use std::fs;

use wasmparser::{Parser, Payload};

use crate::host::path;

/// Bytes. With some of 9,000 an Envoy took 3 MB more than with this, with one of 20,060 13 MB (docs/performance.md).
const LARGEST: usize = 6_500;

#[test]
fn no_function_is_larger_than_a_vm_compiles_cheaply() {
    let wasm = fs::read(path()).expect("a file");
    let largest = Parser::new(0)
        .parse_all(&wasm)
        .filter_map(|payload| match payload.expect("a valid module") {
            Payload::CodeSectionEntry(body) => Some(body.range().len()),
            _ => None,
        })
        .max();
    let largest = largest.expect("a function");
    assert!(
        largest <= LARGEST,
        "a function has {largest} bytes: mark a part of it #[inline(never)]"
    );
}
