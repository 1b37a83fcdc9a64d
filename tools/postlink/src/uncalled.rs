//! Methods of the SDK that the linker keeps because their address is taken, though nothing ever calls them.
//! Every context comes with all methods of the SDK's traits. The SDK's dispatcher calls the callbacks among
//! them; the others are there to call the host, which mtls-watch does by itself.

use anyhow::{Result, ensure};
use walrus::{ElementItems, FunctionBuilder, FunctionId, Module};

/// Puts a trap in the place of each such method. They are known by their names, which the linker leaves
/// if it is asked to.
pub(crate) fn remove(module: &mut Module) -> Result<()> {
    let trap = trap(module);
    let mut removed = 0;
    for element in module.elements.iter_mut() {
        let ElementItems::Functions(functions) = &mut element.items else {
            continue;
        };
        for function in functions {
            let name = module.funcs.get(*function).name.as_deref();
            if name.is_some_and(calls_the_host) {
                *function = trap;
                removed += 1;
            }
        }
    }
    ensure!(
        removed > 0,
        "no method of the SDK is known by its name: has the module been stripped, or are symbols \
         mangled in a new way?"
    );
    walrus::passes::gc::run(module);
    Ok(())
}

/// Whether a symbol is that of a method which a trait of the SDK has for all types, and no callback.
fn calls_the_host(symbol: &str) -> bool {
    // Without the hash at its end.
    let name = format!("{:#}", rustc_demangle::demangle(symbol));
    method_of_the_sdk(&name).is_some_and(|method| {
        !method.starts_with("on_") && !method.starts_with("create_") && method != "get_type"
    })
}

/// The method of a name as the legacy mangling has it, `proxy_wasm::traits::Context::done`, or as v0 has it,
/// `<mtls_watch::root::Root as proxy_wasm::traits::Context>::done`.
fn method_of_the_sdk(name: &str) -> Option<&str> {
    let (path, method) = name.rsplit_once("::")?;
    let of_a_type = path
        .strip_suffix('>')
        .and_then(|path| path.split_once(" as "));
    let path = of_a_type.map_or(path, |(_, path)| path);
    let its_trait = path.strip_prefix("proxy_wasm::traits::")?;
    (!its_trait.contains("::")).then_some(method)
}

/// A function that traps.
fn trap(module: &mut Module) -> FunctionId {
    let mut builder = FunctionBuilder::new(&mut module.types, &[], &[]);
    builder.func_body().unreachable();
    builder.finish(vec![], &mut module.funcs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As rustc 1.95 mangles them, in the legacy way and with `-C symbol-mangling-version=v0`.
    const LEGACY: &str = "_ZN10proxy_wasm6traits7Context4done17h0123456789abcdefE";

    /// Whether a function of that name becomes a trap in the table, where `proxy_on_tick` finds it.
    fn is_trapped(name: &str) -> bool {
        let wat = format!(
            r#"(module
                (import "env" "proxy_done" (func $done))
                (import "env" "proxy_log" (func $log))
                (table 2 funcref)
                (elem (i32.const 0) ${name} $kept)
                (func ${name} (call $done))
                (func $kept (call $log))
                (func (export "proxy_on_tick") (call_indirect (i32.const 0))))"#
        );
        let mut module = Module::from_buffer(&wat::parse_str(wat).unwrap()).unwrap();
        let removed = remove(&mut module);
        let is_trapped = !module
            .imports
            .iter()
            .any(|import| import.name == "proxy_done");
        assert_eq!(removed.is_ok(), is_trapped);
        is_trapped
    }

    #[test]
    fn methods_that_call_the_host_are_taken_out() {
        for method in [
            LEGACY,
            "_ZN10proxy_wasm6traits11HttpContext23get_http_request_header17h0123456789abcdefE",
            "_RNvYNtNtCs2xL6RJ42WaU_10mtls_watch4root4RootNtNtCs17Yx46bJgyp_10proxy_wasm6traits7Context4doneB6_",
            "_RNvYNtNtCs2xL6RJ42WaU_10mtls_watch10unfinished10UnfinishedNtNtCs17Yx46bJgyp_10proxy_wasm6traits11HttpContext23get_http_request_headerB6_",
        ] {
            assert!(is_trapped(method), "{method}");
        }
    }

    #[test]
    fn callbacks_and_all_else_are_kept() {
        for function in [
            "_ZN10proxy_wasm6traits7Context7on_done17h0123456789abcdefE",
            "_ZN10proxy_wasm6traits11RootContext19create_http_context17h0123456789abcdefE",
            "_ZN10proxy_wasm6traits11RootContext8get_type17h0123456789abcdefE",
            "_ZN10proxy_wasm9hostcalls4done17h0123456789abcdefE",
            "_ZN10mtls_watch6traits7Context4done17h0123456789abcdefE",
            "_ZN10proxy_wasm6traits",
            "_ZN10proxy_wasm6traits7Context",
            "_ZN10proxy_wasm6traits7Context999done",
            "_RNvYNtNtCs2xL6RJ42WaU_10mtls_watch4root4RootNtNtCs17Yx46bJgyp_10proxy_wasm6traits7Context7on_doneB6_",
            "_RNvXs1_NtCs2xL6RJ42WaU_10mtls_watch10unfinishedNtB5_10UnfinishedNtNtCs17Yx46bJgyp_10proxy_wasm6traits11RootContext8get_type",
            "other",
        ] {
            assert!(!is_trapped(function), "{function}");
        }
    }

    #[test]
    fn a_module_without_such_a_method_is_refused() {
        let mut module = Module::default();
        let error = remove(&mut module).unwrap_err().to_string();
        assert!(error.starts_with("no method of the SDK"), "{error}");
    }

    #[test]
    fn who_is_called_by_name_is_kept() {
        let wat = format!(
            r#"(module
                (import "env" "proxy_done" (func $done))
                (table 1 funcref)
                (elem (i32.const 0) ${LEGACY})
                (func ${LEGACY} (call $done))
                (func (export "f") (call ${LEGACY})))"#
        );
        let mut module = Module::from_buffer(&wat::parse_str(wat).unwrap()).unwrap();
        remove(&mut module).unwrap();
        assert_eq!(module.imports.iter().count(), 1);
    }
}
