//! The Proxy-Wasm contexts. Thin: what happens is decided in [`crate::inspector`].

mod guard;
mod host;
mod http;
mod network;
mod root;
mod streams;

use std::rc::Rc;

use proxy_wasm::traits::RootContext;

use crate::metrics::counters::Registry;

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
    proxy_wasm::set_root_context(|context| -> Box<dyn RootContext> { Box::new(root::Root::new(context)) });
}}
