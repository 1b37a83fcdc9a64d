//! A small module like the one that the linker leaves, for the tests.

use walrus::{FunctionId, FunctionKind, Module};

use crate::exports::{EXPORTS, GUARDED};

/// A method that every context has from the SDK, and that nothing calls.
pub(crate) const METHOD: &str = "_ZN10proxy_wasm6traits7Context4done17h0123456789abcdefE";

/// Each callback calls `proxy_log`, each guard `proxy_get_status`. One callback too many reaches
/// `proxy_grpc_call`, and the method of the SDK `proxy_done`.
pub(crate) fn wat() -> String {
    with("")
}

/// The same with something more in it.
pub(crate) fn with(more: &str) -> String {
    let callbacks: String = EXPORTS
        .into_iter()
        .filter(|name| !["memory", "_initialize"].contains(name))
        .map(|name| format!("(func (export \"{name}\") (call $log))\n"))
        .collect();
    let guards: String = GUARDED
        .map(|name| format!("(func (export \"guarded_{name}\") (call $status))\n"))
        .concat();
    format!(
        r#"(module
            (import "env" "proxy_log" (func $log))
            (import "env" "proxy_get_status" (func $status))
            (import "env" "proxy_done" (func $done))
            (import "env" "proxy_grpc_call" (func $grpc_call))
            (memory (export "memory") 1)
            (table 1 funcref)
            (elem (i32.const 0) ${METHOD})
            (func ${METHOD} (call $done))
            (func $start (export "_initialize") (call_indirect (i32.const 0)))
            {callbacks}
            {guards}
            (func (export "proxy_on_grpc_receive") (call $grpc_call))
            {more}
            (@custom "target_features" "\01+\08sign-ext")
            (@producers (language "Rust" "1.95.0")))"#
    )
}

pub(crate) fn linked() -> Vec<u8> {
    wat::parse_str(wat()).unwrap()
}

/// The names of the imports that an exported function calls.
pub(crate) fn called(module: &Module, export: &str) -> Vec<String> {
    let function = module.exports.get_func(export).unwrap();
    let functions = calls(module, function).into_iter();
    let import = |function| match &module.funcs.get(function).kind {
        FunctionKind::Import(import) => Some(module.imports.get(import.import).name.clone()),
        _ => None,
    };
    functions.filter_map(import).collect()
}

fn calls(module: &Module, function: FunctionId) -> Vec<FunctionId> {
    #[derive(Default)]
    struct Calls(Vec<FunctionId>);
    impl walrus::ir::Visitor<'_> for Calls {
        fn visit_function_id(&mut self, function: &FunctionId) {
            self.0.push(*function);
        }
    }
    let mut calls = Calls::default();
    let function = module.funcs.get(function).kind.unwrap_local();
    walrus::ir::dfs_in_order(&mut calls, function, function.entry_block());
    calls.0
}
