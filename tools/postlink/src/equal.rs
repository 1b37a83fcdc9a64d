//! Functions that are equal to each other: generic code is compiled for each type, and comes out the same
//! for many.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use walrus::ir::{VisitorMut, dfs_pre_order_mut};
use walrus::{ElementItems, ExportItem, FunctionId, Module, ModuleConfig};
use wasmparser::{Parser, Payload};

/// The module with one of each. What calls them is equal then, too, and so on: round by round, of which
/// each leaves fewer functions than there were.
pub(crate) fn merge(mut wasm: Vec<u8>, config: &ModuleConfig) -> Result<Vec<u8>> {
    loop {
        let mut module = config.parse(&wasm)?;
        let copies = copies(&module, &wasm)?;
        if copies.0.is_empty() {
            return Ok(wasm);
        }
        let before = module.funcs.iter_local().count();
        replace(&mut module, copies);
        walrus::passes::gc::run(&mut module);
        ensure!(
            module.funcs.iter_local().count() < before,
            "equal functions stay: something refers to them that is no call, table or export"
        );
        wasm = module.emit_wasm();
    }
}

/// Of functions that are equal, all but the first, and that.
struct Copies(HashMap<FunctionId, FunctionId>);

fn copies(module: &Module, wasm: &[u8]) -> Result<Copies> {
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CodeSectionEntry(body) = payload? {
            bodies.push(&wasm[body.range()]);
        }
    }
    let mut first = HashMap::new();
    let mut copies = HashMap::new();
    for ((id, function), body) in module.funcs.iter_local().zip(bodies) {
        let equal = *first.entry((function.ty(), body)).or_insert(id);
        if equal != id {
            copies.insert(id, equal);
        }
    }
    Ok(Copies(copies))
}

fn replace(module: &mut Module, mut copies: Copies) {
    for (_, function) in module.funcs.iter_local_mut() {
        let entry = function.entry_block();
        dfs_pre_order_mut(&mut copies, function, entry);
    }
    for element in module.elements.iter_mut() {
        if let ElementItems::Functions(functions) = &mut element.items {
            for function in functions {
                copies.visit_function_id_mut(function);
            }
        }
    }
    for export in module.exports.iter_mut() {
        if let ExportItem::Function(function) = &mut export.item {
            copies.visit_function_id_mut(function);
        }
    }
}

impl VisitorMut for Copies {
    fn visit_function_id_mut(&mut self, function: &mut FunctionId) {
        if let Some(first) = self.0.get(function) {
            *function = *first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(wat: &str) -> usize {
        let wasm = merge(wat::parse_str(wat).unwrap(), &ModuleConfig::new()).unwrap();
        let module = Module::from_buffer(&wasm).unwrap();
        module.funcs.iter_local().count()
    }

    #[test]
    fn equal_functions_become_one_and_so_do_their_callers() {
        let wat = r#"(module
            (table 2 funcref)
            (elem (i32.const 0) $a $b)
            (func $a (result i32) (i32.const 1))
            (func $b (result i32) (i32.const 1))
            (func $calls_a (result i32) (i32.add (call $a) (i32.const 1)))
            (func $calls_b (result i32) (i32.add (call $b) (i32.const 1)))
            (func (export "f") (drop (call $calls_a)))
            (func (export "g") (drop (call $calls_b)) (drop (call_indirect (result i32) (i32.const 1)))))"#;
        assert_eq!(functions(wat), 4);
    }

    #[test]
    fn what_differs_in_type_locals_or_code_stays() {
        let wat = r#"(module
            (func (export "a") (result i32) (i32.const 1))
            (func (export "b") (result i32) (i32.const 2))
            (func (export "c") (result i64) (unreachable))
            (func (export "d") (result i32) (unreachable))
            (func (export "e") (param i32) (local.set 0 (i32.const 1)))
            (func (export "f") (param i32) (local i32) (local.set 1 (i32.const 1))))"#;
        assert_eq!(functions(wat), 6);
    }

    /// A start function, a global and a table of expressions refer to functions, too. No linker of Rust
    /// leaves these, so they are not followed; but nor are they tried for ever.
    #[test]
    fn a_copy_that_cannot_be_replaced_is_an_error() {
        for reference in [
            "(start $b)",
            "(global (export \"g\") funcref (ref.func $b))",
            "(table (export \"t\") 1 funcref) (elem (i32.const 0) funcref (ref.func $b))",
        ] {
            let wat = format!("(module {reference} (func $a (export \"a\")) (func $b))");
            let merged = merge(wat::parse_str(&wat).unwrap(), &ModuleConfig::new());
            let error = merged.expect_err(reference).to_string();
            assert!(error.starts_with("equal functions stay"), "{error}");
        }
    }
}
