//! What the linker keeps because its address is taken, though nothing ever calls it. Every context comes
//! with all methods of the SDK's traits. The SDK's dispatcher calls the callbacks among them; the others
//! are there to call the host, which mtls-watch does by itself.

use walrus::{ElementItems, FunctionBuilder, FunctionId, Module};

/// Puts a trap in the place of each such method. They are known by their names, which the linker leaves
/// if it is asked to.
pub(crate) fn remove(module: &mut Module) {
    let trap = trap(module);
    for element in module.elements.iter_mut() {
        let ElementItems::Functions(functions) = &mut element.items else {
            continue;
        };
        for function in functions {
            let name = module.funcs.get(*function).name.as_deref();
            if name.is_some_and(calls_the_host) {
                *function = trap;
            }
        }
    }
    walrus::passes::gc::run(module);
}

/// Whether a name is that of a method which a trait of the SDK has for all types, and no callback.
fn calls_the_host(name: &str) -> bool {
    let method = name.strip_prefix("_ZN10proxy_wasm6traits");
    let method = method.and_then(|path| identifiers(path).nth(1));
    method.is_some_and(|method| {
        !method.starts_with("on_") && !method.starts_with("create_") && method != "get_type"
    })
}

/// The identifiers of a symbol, each behind its length.
fn identifiers(mut path: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (length, rest) = path.split_at(path.find(|c: char| !c.is_ascii_digit())?);
        let (identifier, rest) = rest.split_at_checked(length.parse().ok()?)?;
        path = rest;
        Some(identifier)
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
    use super::*;

    /// Whether a function of that name becomes a trap in the table, where `proxy_on_tick` finds it.
    fn is_trapped(name: &str) -> bool {
        let wat = format!(
            r#"(module
                (import "env" "proxy_done" (func $done))
                (table 1 funcref)
                (elem (i32.const 0) ${name})
                (func ${name} (call $done))
                (func (export "proxy_on_tick") (call_indirect (i32.const 0))))"#
        );
        let mut module = Module::from_buffer(&wat::parse_str(wat).unwrap()).unwrap();
        remove(&mut module);
        module.imports.iter().next().is_none()
    }

    #[test]
    fn methods_that_call_the_host_are_taken_out() {
        for method in [
            "_ZN10proxy_wasm6traits7Context4done17h0123456789abcdefE",
            "_ZN10proxy_wasm6traits11HttpContext23get_http_request_header17h0123456789abcdefE",
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
            "other",
        ] {
            assert!(!is_trapped(function), "{function}");
        }
    }

    #[test]
    fn who_is_called_by_name_is_kept() {
        let wat = r#"(module
            (import "env" "proxy_done" (func $_ZN10proxy_wasm6traits7Context4doneE))
            (func (export "f") (call $_ZN10proxy_wasm6traits7Context4doneE)))"#;
        let mut module = Module::from_buffer(&wat::parse_str(wat).unwrap()).unwrap();
        remove(&mut module);
        assert_eq!(module.imports.iter().count(), 1);
    }
}
