//! Drops the callbacks that mtls-watch does not need from the module's export section, puts its guards
//! between the SDK and the host, and takes out code that is never called, or there twice.
//!
//! The Proxy-Wasm SDK exports every callback of the ABI, implemented or not. Envoy looks at the
//! export section, not at the code behind it: whatever is exported is one entry into the VM per
//! event. Linker flags cannot take an export away from a crate that asked for it, so it is done
//! after linking.

mod equal;
mod uncalled;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, process};

use anyhow::{Context, Result, bail, ensure};
use walrus::ir::{VisitorMut, dfs_pre_order_mut};
use walrus::{ExportItem, FunctionId, FunctionKind, ImportKind, Module, ModuleConfig};

/// What Envoy must find. Each exported callback is an entry into the VM per event, whether or not
/// it does anything: body and trailer callbacks alone are four entries per HTTP request, and
/// `proxy_on_new_connection` would run before the handshake, when there is no peer to look at.
const EXPORTS: [&str; 15] = [
    // What makes it a Proxy-Wasm module.
    "memory",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_memory_allocate",
    // Once in a VM's life, or on a timer.
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_http_call_response",
    // Once in a context's life: which configuration watches it, and its end, before access logs are
    // written. (`proxy_on_done` asks whether the context may go: without it, it may. `proxy_on_delete`
    // would tell the end again.)
    "proxy_on_context_create",
    "proxy_on_log",
    // HTTP: the client's certificate, then the server's.
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    // Network: whichever side speaks first, and the end of a handshake that never completed.
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_downstream_connection_close",
];

const USAGE: &str = "usage: postlink [--keep-names] IN.wasm OUT.wasm";

fn main() -> ExitCode {
    match run(env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postlink: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: impl Iterator<Item = String>) -> Result<()> {
    let (flags, paths): (Vec<_>, Vec<_>) = args.partition(|arg| arg.starts_with("--"));
    ensure!(flags.iter().all(|flag| flag == "--keep-names"), USAGE);
    let [input, output] = paths.as_slice() else {
        bail!(USAGE);
    };
    let before = fs::read(input).with_context(|| format!("cannot read {input}"))?;
    let after = trim(&before, !flags.is_empty()).with_context(|| input.clone())?;
    replace(Path::new(output), &after).with_context(|| format!("cannot write {output}"))?;
    println!("{output}: {} -> {} bytes", before.len(), after.len());
    Ok(())
}

/// The module with only [`EXPORTS`] exported, without what only the others reached, and no code twice.
fn trim(wasm: &[u8], keep_names: bool) -> Result<Vec<u8>> {
    let mut config = ModuleConfig::new();
    config.generate_name_section(keep_names);
    let mut module = config.parse(wasm)?;
    ensure_complete(&module)?;
    guard(&mut module)?;
    let dropped: Vec<_> = module
        .exports
        .iter()
        .filter(|export| !EXPORTS.contains(&export.name.as_str()))
        .map(|export| export.id())
        .collect();
    for export in dropped {
        module.exports.delete(export);
    }
    walrus::passes::gc::run(&mut module);
    uncalled::remove(&mut module);
    equal::merge(module.emit_wasm(), &config)
}

/// What an export with this prefix stands in front of, see src/filter/guard.rs.
const GUARDED: &str = "guarded_";

/// Directs all calls of a host function to its guard, and Envoy's of a callback likewise.
fn guard(module: &mut Module) -> Result<()> {
    let guards: Vec<_> = module
        .exports
        .iter()
        .filter_map(|export| match export.item {
            ExportItem::Function(guard) => {
                let name = export.name.strip_prefix(GUARDED)?;
                Some((name.to_owned(), guard))
            }
            _ => None,
        })
        .collect();
    for (name, guard) in guards {
        let callback = module.exports.iter_mut().find(|export| export.name == name);
        if let Some(callback) = callback {
            callback.item = ExportItem::Function(guard);
            continue;
        }
        let host_functions: Vec<_> = module
            .imports
            .iter()
            .filter(|import| import.name == name)
            .filter_map(|import| match import.kind {
                ImportKind::Function(function) => Some(function),
                _ => None,
            })
            .collect();
        ensure!(!host_functions.is_empty(), "{GUARDED}{name} guards nothing");
        let mut redirect = Redirect {
            host_functions,
            guard,
        };
        for function in module
            .funcs
            .iter_mut()
            .filter(|function| function.id() != guard)
        {
            if let FunctionKind::Local(function) = &mut function.kind {
                let entry = function.entry_block();
                dfs_pre_order_mut(&mut redirect, function, entry);
            }
        }
    }
    Ok(())
}

struct Redirect {
    host_functions: Vec<FunctionId>,
    guard: FunctionId,
}

impl VisitorMut for Redirect {
    fn visit_function_id_mut(&mut self, function: &mut FunctionId) {
        if self.host_functions.contains(function) {
            *function = self.guard;
        }
    }
}

/// A callback that is missing would not be missed by Envoy: it would silently never be called.
fn ensure_complete(module: &Module) -> Result<()> {
    let missing: Vec<_> = EXPORTS
        .into_iter()
        .filter(|name| !module.exports.iter().any(|export| export.name == *name))
        .collect();
    ensure!(missing.is_empty(), "does not export {}", missing.join(", "));
    Ok(())
}

/// Writes a file beside `path`, then renames it: nobody ever reads half a module, and `path` may
/// be the input. (Cargo hard-links its outputs; writing in place would alter its own copy too.)
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}", process::id()));
    let partial = PathBuf::from(partial);
    let written = fs::write(&partial, content).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // Best effort: the error worth reporting is the first one.
        let _ = fs::remove_file(&partial);
    }
    Ok(written?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A module that exports everything required but `without`, and one callback too many, which
    /// alone reaches one of the two imports.
    fn module(without: &str) -> Vec<u8> {
        let exports: String = EXPORTS
            .into_iter()
            .filter(|name| *name != "memory" && *name != without)
            .map(|name| format!("(func (export \"{name}\") (call $kept))"))
            .collect();
        wat::parse_str(format!(
            r#"(module
                (import "env" "proxy_log" (func $kept))
                (import "env" "proxy_grpc_call" (func $only_for_the_dropped))
                (memory (export "memory") 1)
                {exports}
                (func (export "proxy_on_grpc_receive") (call $only_for_the_dropped))
                (@custom "target_features" "\01+\08sign-ext")
                (@producers (language "Rust" "1.95.0")))"#
        ))
        .unwrap()
    }

    fn names<'a>(all: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
        all.map(String::as_str).collect()
    }

    #[test]
    fn keeps_exactly_the_allow_list() {
        let trimmed = Module::from_buffer(&trim(&module(""), false).unwrap()).unwrap();
        assert_eq!(
            names(trimmed.exports.iter().map(|export| &export.name)),
            BTreeSet::from(EXPORTS)
        );
    }

    #[test]
    fn collects_what_only_dropped_exports_reached() {
        let trimmed = Module::from_buffer(&trim(&module(""), false).unwrap()).unwrap();
        assert_eq!(
            names(trimmed.imports.iter().map(|import| &import.name)),
            BTreeSet::from(["proxy_log"])
        );
    }

    /// Who calls a host function calls its guard, which alone calls the host; and so with a callback.
    #[test]
    fn guards_stand_before_what_they_guard() {
        let exports: String = EXPORTS
            .into_iter()
            .filter(|name| !["memory", "proxy_on_tick"].contains(name))
            .map(|name| format!("(func (export \"{name}\"))"))
            .collect();
        let wat = format!(
            r#"(module
                (import "env" "proxy_log" (func $host))
                (import "env" "proxy_log" (func $again))
                (memory (export "memory") 1)
                {exports}
                (func (export "proxy_on_tick") (call $host) (call $again))
                (func (export "guarded_proxy_log") (call $host))
                (func (export "guarded_proxy_on_log") (call $again)))"#
        );
        let trimmed = trim(&wat::parse_str(wat).unwrap(), false).unwrap();
        let trimmed = Module::from_buffer(&trimmed).unwrap();
        let calls = |name: &str| {
            let function = trimmed.exports.get_func(name).unwrap();
            calls(&trimmed, function)
        };
        let [guard, again] = calls("proxy_on_tick").try_into().unwrap();
        assert_eq!(guard, again);
        let import = |function| matches!(trimmed.funcs.get(function).kind, FunctionKind::Import(_));
        assert!(!import(guard));
        let [host] = super::tests::calls(&trimmed, guard).try_into().unwrap();
        assert!(import(host));
        assert_eq!(calls("proxy_on_log"), [guard]);
        assert_eq!(calls("proxy_on_configure"), []);
    }

    /// The functions that one calls.
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

    #[test]
    fn a_guard_of_nothing_is_refused() {
        let wat = format!(
            r#"(module (memory (export "memory") 1)
                {} (func (export "guarded_proxy_x")))"#,
            EXPORTS
                .into_iter()
                .filter(|name| *name != "memory")
                .map(|name| format!("(func (export \"{name}\"))"))
                .collect::<String>()
        );
        let error = trim(&wat::parse_str(wat).unwrap(), false).unwrap_err();
        assert_eq!(error.to_string(), "guarded_proxy_x guards nothing");
    }

    #[test]
    fn names_the_missing_export() {
        for name in ["proxy_on_tick", "proxy_abi_version_0_2_1"] {
            let error = trim(&module(name), false).unwrap_err();
            assert_eq!(error.to_string(), format!("does not export {name}"));
        }
    }

    #[test]
    fn keeps_the_sections_that_tools_read() {
        let trimmed = Module::from_buffer(&trim(&module(""), false).unwrap()).unwrap();
        let features: Vec<_> = trimmed.customs.iter().map(|(_, s)| s.name()).collect();
        assert_eq!(features, ["target_features"]);
        let languages = &trimmed.producers.fields()[0];
        assert_eq!(languages.name(), "language");
        assert_eq!(languages.values()[0].name(), "Rust");
    }

    #[test]
    fn function_names_are_kept_only_on_request() {
        let names_of_all = |keep_names| {
            let trimmed = trim(&module(""), keep_names).unwrap();
            Module::from_buffer(&trimmed)
                .unwrap()
                .funcs
                .iter()
                .any(|function| function.name.as_deref() == Some("kept"))
        };
        assert!(names_of_all(true));
        assert!(!names_of_all(false));
    }

    #[test]
    fn a_trimmed_module_stays_as_it_is() {
        for keep_names in [false, true] {
            let once = trim(&module(""), keep_names).unwrap();
            assert_eq!(trim(&once, keep_names).unwrap(), once);
        }
    }

    #[test]
    fn output_may_be_the_input_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("module.wasm");
        fs::write(&file, module("")).unwrap();
        let argument = file.to_str().unwrap().to_owned();
        run([argument.clone(), argument].into_iter()).unwrap();
        assert_eq!(fs::read(&file).unwrap(), trim(&module(""), false).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_refused_module_leaves_the_output_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("module.wasm");
        fs::write(&file, b"not wasm").unwrap();
        let argument = file.to_str().unwrap().to_owned();
        assert!(run([argument.clone(), argument].into_iter()).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"not wasm");
    }

    #[test]
    fn bad_usage_is_refused() {
        for args in [&["one.wasm"][..], &["--fast", "a.wasm", "b.wasm"], &[]] {
            let error = run(args.iter().map(|&arg| arg.into())).unwrap_err();
            assert_eq!(error.to_string(), USAGE);
        }
    }
}
