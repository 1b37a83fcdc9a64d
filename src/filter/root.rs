//! One plugin configuration in one VM.

use std::cell::Cell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::ContextType;

use super::REGISTRY;
use super::host::{self, Proxy};
use super::http::HttpFilter;
use super::network::NetworkFilter;
use crate::config::Config;
use crate::inspector::{ConnectionWatch, Inspector, RequestWatch, TICK_MILLISECONDS};

#[derive(Default)]
pub(super) struct Root {
    inspector: Option<Rc<Inspector>>,
    /// Whether the last context was an HTTP stream.
    http: Cell<bool>,
}

impl Root {
    fn inspector(&self) -> Rc<Inspector> {
        // Envoy makes no stream before it has configured the plugin; a host that did would get the
        // defaults.
        self.inspector
            .clone()
            .unwrap_or_else(|| inspector(Config::default()))
    }
}

fn inspector(config: Config) -> Rc<Inspector> {
    Rc::new(Inspector::new(config, REGISTRY.with(Rc::clone)))
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _plugin_configuration_size: usize) -> bool {
        log::set_max_level(host::log_level());
        match Config::parse(&host::plugin_configuration()) {
            Ok(config) => {
                if config.hierarchy.is_some() {
                    log::warn!("mtls-watch: hierarchy is not read by this version");
                }
                let inspector = inspector(config);
                inspector.start(&Proxy);
                self.inspector = Some(inspector);
                host::set_tick_period(TICK_MILLISECONDS);
                true
            }
            Err(error) => {
                log::error!("mtls-watch: configuration refused: {error}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        log::set_max_level(host::log_level());
        if let Some(inspector) = &self.inspector {
            inspector.tick(&Proxy);
        }
    }

    /// Whether the new context is an HTTP stream or a connection: the module finds out by itself.
    /// Measured: `request.protocol` is there at creation of the one, and not of the other.
    /// A wrong guess kills the VM, so where Envoy does not say, it is what the last one was.
    fn get_type(&self) -> Option<ContextType> {
        if let Some(http) = host::has_property(&["request", "protocol"]) {
            self.http.set(http);
        }
        Some(match self.http.get() {
            true => ContextType::HttpContext,
            false => ContextType::StreamContext,
        })
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(HttpFilter::new(RequestWatch::new(
            self.inspector(),
        ))))
    }

    fn create_stream_context(&self, _context_id: u32) -> Option<Box<dyn StreamContext>> {
        let watch = ConnectionWatch::new(self.inspector());
        Some(Box::new(NetworkFilter::new(watch)))
    }
}
