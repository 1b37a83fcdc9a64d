//! The module as the linker leaves it, before `tools/postlink` has finished it: it watches nothing, lets
//! all traffic pass, and says so.
//!
//! There the events come to the SDK, which panics at an event of a context that it does not know, or
//! that is of another type. So there are contexts of the right type, which do nothing.
//! See docs/module-link.md.

use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::ContextType;

use crate::host::{self, Proxy};
use mtls_watch_core::host::Host;

/// Any context: of a plugin, of an HTTP stream, of a connection.
pub(crate) struct Unfinished;

impl Context for Unfinished {}
impl HttpContext for Unfinished {}
impl StreamContext for Unfinished {}

impl RootContext for Unfinished {
    fn on_configure(&mut self, _plugin_configuration_size: usize) -> bool {
        host::write_log(
            log::Level::Error,
            "mtls-watch: this module is unfinished and watches nothing: `make build` finishes it",
        );
        true
    }

    /// As measured on Envoy, `request.protocol` is there when an HTTP stream is created, and not when a
    /// connection is.
    fn get_type(&self) -> Option<ContextType> {
        Some(match Proxy.property(&["request", "protocol"]) {
            Some(_) => ContextType::HttpContext,
            None => ContextType::StreamContext,
        })
    }

    fn create_http_context(&self, _context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Self))
    }

    fn create_stream_context(&self, _context: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Self))
    }
}
