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
use crate::hierarchy::admin::{MAX_REPLY_BYTES, ReplyError};
use crate::inspector::{self, ConnectionWatch, Inspector, RequestWatch, TICK_MILLISECONDS};

#[derive(Default)]
pub(super) struct Root {
    inspector: Option<Rc<Inspector>>,
    /// Whether the last context was an HTTP stream.
    http: Cell<bool>,
    /// The connection of the context that is being created, if it has been met.
    connection: Cell<Option<u64>>,
}

impl Root {
    fn inspector(&self) -> Rc<Inspector> {
        // Envoy makes no stream before it has configured the plugin; a host that did would get the
        // defaults.
        self.inspector
            .clone()
            .unwrap_or_else(|| new_inspector(Config::default()))
    }
}

fn new_inspector(config: Config) -> Rc<Inspector> {
    Rc::new(Inspector::new(config, REGISTRY.with(Rc::clone)))
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _trailers: usize) {
        let Some(inspector) = &self.inspector else {
            return;
        };
        // A call that failed or timed out comes back without headers.
        let status = (headers > 0).then(host::reply_status).flatten();
        let content = match status {
            None => Err(ReplyError::None),
            Some(status) if status != b"200" => Err(ReplyError::Status(
                String::from_utf8_lossy(&status).into_owned(),
            )),
            Some(_) if body > MAX_REPLY_BYTES => Err(ReplyError::TooLarge(body)),
            Some(_) => Ok(host::reply_body(body)),
        };
        inspector.on_reply(&Proxy, token, content.as_deref().map_err(Clone::clone));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _plugin_configuration_size: usize) -> bool {
        log::set_max_level(host::log_level());
        match Config::parse(&host::plugin_configuration()) {
            Ok(config) => {
                let inspector = new_inspector(config);
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
    /// A connection that has been met before is that of a further request. Else, as measured,
    /// `request.protocol` is there at creation of the one, and not of the other.
    /// Where Envoy does not say, it is what the last one was; `guard` passes over what was guessed wrong.
    fn get_type(&self) -> Option<ContextType> {
        let connection = inspector::met_connection(&Proxy);
        self.connection.set(connection);
        if connection.is_some() {
            self.http.set(true);
        } else if let Some(http) = host::has_property(&["request", "protocol"]) {
            self.http.set(http);
        }
        Some(match self.http.get() {
            true => ContextType::HttpContext,
            false => ContextType::StreamContext,
        })
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        let watch = RequestWatch::new(self.inspector(), self.connection.take());
        Some(Box::new(HttpFilter::new(watch)))
    }

    fn create_stream_context(&self, context: u32) -> Option<Box<dyn StreamContext>> {
        let watch = ConnectionWatch::new(self.inspector());
        Some(Box::new(NetworkFilter::new(context, watch)))
    }
}
