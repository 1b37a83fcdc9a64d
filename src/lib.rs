//! The module that runs in Envoy: its callbacks and host calls, over the core.
//!
//! Thin: what happens is decided in [`mtls_watch_core::inspector`]. The only part of the project that knows
//! Proxy-Wasm. See docs/architecture.md, and docs/module-link.md for how Envoy's events get here.

#![cfg(target_arch = "wasm32")]
#![deny(unsafe_code, unreachable_pub)]
// A panic kills the VM of its worker, for every stream on it: none may be written by accident.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable
)]

mod context;
mod guard;
mod host;
mod root;
mod streams;
mod unfinished;

use std::rc::Rc;

use proxy_wasm::traits::RootContext;

use crate::context::RootId;
use mtls_watch_core::metrics::counters::Registry;

thread_local! {
    /// Metric handles belong to the VM: several plugin configurations may share it.
    static REGISTRY: Rc<Registry> = Rc::default();
}

struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            host::write_log(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

proxy_wasm::main! {{
    // Fails only if set before: the VM starts once.
    let _ = log::set_logger(&Log);
    log::set_max_level(log::LevelFilter::Warn);
    std::panic::set_hook(Box::new(|panic| {
        host::write_log(log::Level::Error, &format!("mtls-watch: bug, please report: {panic}"));
    }));
    proxy_wasm::set_root_context(|context| -> Box<dyn RootContext> {
        match guard::has_root(RootId(context)) {
            true => Box::new(root::Root {
                id: RootId(context),
                at_tick: streams::on_tick,
            }),
            false => Box::new(unfinished::Unfinished),
        }
    });
}}
