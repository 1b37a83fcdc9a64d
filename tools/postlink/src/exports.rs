//! What the finished module exports, and the guards that take the place of the SDK's callbacks.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use walrus::{ExportItem, FunctionId, Module};

/// What Envoy must find. Each exported callback is an entry into the VM per event, whether or not
/// it does anything: body and trailer callbacks alone are four entries per HTTP request, and
/// `proxy_on_new_connection` would run before the handshake, when there is no peer to look at.
pub(crate) const EXPORTS: [&str; 15] = [
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

/// The callbacks of the SDK that a guard takes the place of. The guard of `proxy_on_x` is
/// `guarded_proxy_on_x` in src/guard.rs. All of these must be there, and no other.
pub(crate) const GUARDED: [&str; 9] = [
    "proxy_on_memory_allocate",
    "proxy_on_http_call_response",
    "proxy_on_context_create",
    "proxy_on_log",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_downstream_connection_close",
];

const PREFIX: &str = "guarded_";

/// Whether the module exports what a finished one does, and nothing else.
pub(crate) fn are_final(module: &Module) -> bool {
    let exports: BTreeSet<_> = names(module).collect();
    exports == BTreeSet::from(EXPORTS)
}

/// Puts each guard in the place of the callback that it guards, and drops all exports but [`EXPORTS`].
pub(crate) fn replace(module: &mut Module) -> Result<()> {
    ensure_complete(module)?;
    ensure_all_guard_something(module)?;
    for name in GUARDED {
        put_guard(module, name)?;
    }
    drop_others(module);
    walrus::passes::gc::run(module);
    Ok(())
}

fn names(module: &Module) -> impl Iterator<Item = &str> {
    module.exports.iter().map(|export| export.name.as_str())
}

/// A callback that is missing would not be missed by Envoy: it would silently never be called.
fn ensure_complete(module: &Module) -> Result<()> {
    let guards = GUARDED.map(guard_of);
    let required = EXPORTS.into_iter().chain(guards.iter().map(String::as_str));
    let missing: Vec<_> = required
        .filter(|required| !names(module).any(|name| name == *required))
        .collect();
    ensure!(missing.is_empty(), "does not export {}", missing.join(", "));
    Ok(())
}

/// A guard that is in no list would silently be dropped.
fn ensure_all_guard_something(module: &Module) -> Result<()> {
    for name in names(module) {
        if let Some(guarded) = name.strip_prefix(PREFIX) {
            ensure!(
                GUARDED.contains(&guarded),
                "{name} guards nothing: {guarded} is not in the list of tools/postlink/src/exports.rs"
            );
        }
    }
    Ok(())
}

fn put_guard(module: &mut Module, name: &str) -> Result<()> {
    let guard_name = guard_of(name);
    let guard = function(module, &guard_name)?;
    let callback = function(module, name)?;
    ensure!(
        signature(module, guard) == signature(module, callback),
        "{guard_name} has not the parameters and results of {name}"
    );
    let mut exports = module.exports.iter_mut();
    let export = exports.find(|export| export.name == name);
    export
        .with_context(|| format!("does not export {name}"))?
        .item = ExportItem::Function(guard);
    Ok(())
}

fn guard_of(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The function of that name among the exports.
fn function(module: &Module, name: &str) -> Result<FunctionId> {
    match module.exports.iter().find(|export| export.name == name) {
        None => bail!("does not export {name}"),
        Some(export) => match export.item {
            ExportItem::Function(function) => Ok(function),
            _ => bail!("{name} is not a function"),
        },
    }
}

fn signature(module: &Module, function: FunctionId) -> (&[walrus::ValType], &[walrus::ValType]) {
    let ty = module.types.get(module.funcs.get(function).ty());
    (ty.params(), ty.results())
}

fn drop_others(module: &mut Module) {
    let dropped: Vec<_> = module
        .exports
        .iter()
        .filter(|export| !EXPORTS.contains(&export.name.as_str()))
        .map(|export| export.id())
        .collect();
    for export in dropped {
        module.exports.delete(export);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn replaced(wat: &str) -> Result<Module> {
        let mut module = Module::from_buffer(&wat::parse_str(wat).unwrap()).unwrap();
        replace(&mut module)?;
        Ok(module)
    }

    fn error(wat: &str) -> String {
        replaced(wat).unwrap_err().to_string()
    }

    #[test]
    fn keeps_exactly_the_list() {
        assert!(!are_final(
            &Module::from_buffer(&fixture::linked()).unwrap()
        ));
        assert!(are_final(&replaced(&fixture::wat()).unwrap()));
    }

    #[test]
    fn collects_what_only_dropped_exports_reached() {
        let module = replaced(&fixture::wat()).unwrap();
        let imports: Vec<_> = module.imports.iter().map(|import| &import.name).collect();
        assert!(
            !imports.contains(&&"proxy_grpc_call".to_owned()),
            "{imports:?}"
        );
    }

    /// Envoy calls the guard. Whoever in the module calls the SDK's own function still does.
    #[test]
    fn guards_take_the_place_of_callbacks() {
        let module = replaced(&fixture::wat()).unwrap();
        for name in EXPORTS.iter().filter(|name| **name != "memory") {
            let called = fixture::called(&module, name);
            let guarded = GUARDED.contains(name);
            assert_eq!(
                called.contains(&"proxy_get_status".to_owned()),
                guarded,
                "{name}"
            );
        }
    }

    #[test]
    fn every_callback_must_be_there() {
        for name in EXPORTS {
            let wat = fixture::wat().replace(&format!("(export \"{name}\""), "(export \"other\"");
            assert_eq!(error(&wat), format!("does not export {name}"));
        }
    }

    #[test]
    fn every_guard_must_be_there() {
        for name in GUARDED.map(guard_of) {
            let wat = fixture::wat().replace(&format!("(export \"{name}\")"), "");
            assert_eq!(error(&wat), format!("does not export {name}"));
        }
    }

    #[test]
    fn a_guard_of_nothing_is_refused() {
        for name in [
            "guarded_proxy_on_done",
            "guarded_proxy_log",
            "guarded_proxy_on_tick",
        ] {
            let wat = fixture::with(&format!("(func (export \"{name}\"))"));
            let error = error(&wat);
            assert!(
                error.starts_with(&format!("{name} guards nothing")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_guard_of_another_signature_is_refused() {
        let guard = "(export \"guarded_proxy_on_log\")";
        let wat = fixture::wat().replace(guard, &format!("{guard} (param i32)"));
        assert_eq!(
            error(&wat),
            "guarded_proxy_on_log has not the parameters and results of proxy_on_log"
        );
    }

    #[test]
    fn a_guard_must_be_a_function() {
        let wat = fixture::wat().replace("(export \"guarded_proxy_on_log\")", "");
        let end = wat.rfind(')').unwrap();
        let wat = format!(
            "{} (export \"guarded_proxy_on_log\" (memory 0)))",
            &wat[..end]
        );
        assert_eq!(error(&wat), "guarded_proxy_on_log is not a function");
    }
}
