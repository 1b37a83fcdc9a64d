//! What the linker keeps because its address is taken, though nothing ever calls it: a context comes with
//! every method of the SDK's traits, for each of the host functions there are.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use walrus::ir::{Instr, InstrSeqId};
use walrus::{ElementItems, FunctionBuilder, FunctionId, ImportKind, LocalFunction, Module};

/// The host functions that mtls-watch calls, itself or through the SDK. A method that calls another one,
/// whatever happens, is never called.
const HOST_FUNCTIONS: [&str; 20] = [
    "proxy_call_foreign_function",
    "proxy_close_stream",
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_value",
    "proxy_get_log_level",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_effective_context",
    "proxy_set_property",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
];

/// Puts a trap in the place of each such method.
pub(crate) fn remove(module: &mut Module) -> Result<()> {
    let mut uncalled = unused_host_functions(module)?;
    loop {
        let more = callers(module, &uncalled);
        if more.is_empty() {
            break;
        }
        uncalled.extend(more);
    }
    let trap = trap(module);
    for element in module.elements.iter_mut() {
        if let ElementItems::Functions(functions) = &mut element.items {
            let uncalled = |function: &&mut _| uncalled.contains(*function);
            functions
                .iter_mut()
                .filter(uncalled)
                .for_each(|function| *function = trap);
        }
    }
    walrus::passes::gc::run(module);
    Ok(())
}

/// The host functions that are not on the list. Whoever calls one imports it: what is imported twice is
/// called by the module, too, and not only by the SDK.
fn unused_host_functions(module: &Module) -> Result<HashSet<FunctionId>> {
    let mut names = HashSet::new();
    let mut unused = HashSet::new();
    for import in module
        .imports
        .iter()
        .filter(|import| import.module == "env")
    {
        if let ImportKind::Function(function) = import.kind
            && !HOST_FUNCTIONS.contains(&import.name.as_str())
        {
            let name = &import.name;
            ensure!(names.insert(name), "calls {name}: add it to HOST_FUNCTIONS");
            unused.insert(function);
        }
    }
    Ok(unused)
}

/// The functions outside `uncalled` that cannot but call one inside.
fn callers(module: &Module, uncalled: &HashSet<FunctionId>) -> Vec<FunctionId> {
    let functions = module.funcs.iter_local();
    let callers = functions.filter(|(id, function)| {
        let entry = function.entry_block();
        !uncalled.contains(id) && calls_before_any_branch(function, entry, uncalled) == Some(true)
    });
    callers.map(|(id, _)| id).collect()
}

/// Whether a call of one of these comes before the first branch; `None`: there is neither.
fn calls_before_any_branch(
    function: &LocalFunction,
    sequence: InstrSeqId,
    these: &HashSet<FunctionId>,
) -> Option<bool> {
    let instructions = &function.block(sequence).instrs;
    instructions
        .iter()
        .find_map(|(instruction, _)| match instruction {
            Instr::Call(call) => these.contains(&call.func).then_some(true),
            Instr::Block(block) => calls_before_any_branch(function, block.seq, these),
            Instr::Loop(block) => calls_before_any_branch(function, block.seq, these),
            Instr::Br(_)
            | Instr::BrIf(_)
            | Instr::BrTable(_)
            | Instr::IfElse(_)
            | Instr::Return(_)
            | Instr::Unreachable(_) => Some(false),
            _ => None,
        })
}

/// A function that traps.
fn trap(module: &mut Module) -> FunctionId {
    let mut builder = FunctionBuilder::new(&mut module.types, &[], &[]);
    builder.func_body().unreachable();
    builder.finish(vec![], &mut module.funcs)
}

#[cfg(test)]
mod tests {
    use walrus::ExportItem;

    use super::*;

    /// What is left of a table with one function of that body, and of the imports.
    fn remaining(imports: &str, body: &str) -> Result<(bool, Vec<String>)> {
        let wat = format!(
            r#"(module
                {imports}
                (table 1 funcref)
                (elem (i32.const 0) $method)
                (func $method (param i32) {body})
                (func (export "f") (call_indirect (param i32) (i32.const 1) (i32.const 0))))"#
        );
        let mut module = Module::from_buffer(&wat::parse_str(wat)?)?;
        remove(&mut module)?;
        let is_trap = |function: &FunctionId| {
            let function = module.funcs.get(*function).kind.unwrap_local();
            let entry = function.block(function.entry_block());
            matches!(*entry.instrs, [(Instr::Unreachable(_), _)])
        };
        let element = module.elements.iter().next();
        let is_trapped = match element.map(|element| &element.items) {
            Some(ElementItems::Functions(functions)) => functions.iter().all(is_trap),
            _ => false,
        };
        let imports = module.imports.iter().map(|import| import.name.clone());
        Ok((is_trapped, imports.collect()))
    }

    const UNUSED: &str = r#"(import "env" "proxy_done" (func $unused))"#;
    const USED: &str = r#"(import "env" "proxy_log" (func $used))"#;

    #[test]
    fn a_method_that_calls_an_unused_host_function_is_a_trap() {
        for body in [
            "(call $unused)",
            "(block (loop (call $unused))) (br_if 0 (local.get 0))",
            "(call $wrapper)",
        ] {
            let wrapper = "(func $wrapper (drop (i32.const 1)) (call $unused))";
            let (is_trapped, imports) = remaining(&format!("{UNUSED} {wrapper}"), body).unwrap();
            assert!(is_trapped, "{body}");
            assert_eq!(imports, [""; 0], "{body}");
        }
    }

    #[test]
    fn a_method_that_may_do_without_is_kept() {
        for body in [
            "(br_if 0 (local.get 0)) (call $unused)",
            "(block (br_if 0 (local.get 0)) (call $unused))",
            "(if (local.get 0) (then (call $unused)))",
            "(return) (call $unused)",
        ] {
            let (is_trapped, imports) = remaining(UNUSED, body).unwrap();
            assert!(!is_trapped, "{body}");
            let is_reachable = !body.starts_with("(return)");
            assert_eq!(imports.len(), usize::from(is_reachable), "{body}");
        }
        let (is_trapped, imports) = remaining(USED, "(call $used)").unwrap();
        assert!(!is_trapped);
        assert_eq!(imports, ["proxy_log"]);
    }

    #[test]
    fn who_is_called_by_name_is_kept() {
        let wat = format!(r#"(module {UNUSED} (func (export "f") (call $unused)))"#);
        let mut module = Module::from_buffer(&wat::parse_str(wat).unwrap()).unwrap();
        remove(&mut module).unwrap();
        assert_eq!(module.imports.iter().count(), 1);
        let export = module.exports.iter().next().unwrap();
        assert!(matches!(export.item, ExportItem::Function(_)));
    }

    #[test]
    fn a_host_function_of_the_module_must_be_on_the_list() {
        let twice = format!("{UNUSED} {}", UNUSED.replace("$unused", "$own"));
        let error = remaining(&twice, "(call $unused) (call $own)").unwrap_err();
        assert_eq!(
            error.to_string(),
            "calls proxy_done: add it to HOST_FUNCTIONS"
        );
    }
}
