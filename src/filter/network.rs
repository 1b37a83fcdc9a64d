//! The network filter.

use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::{Action, PeerType};

use super::guard::Connection;
use super::host::{self, Proxy};
use crate::inspector::{ConnectionDecision, ConnectionWatch, Event};

pub(super) struct NetworkFilter {
    watch: ConnectionWatch,
    _taken_for: Connection,
}

impl NetworkFilter {
    pub(super) fn new(context: u32, watch: ConnectionWatch) -> Self {
        Self {
            watch,
            _taken_for: Connection::new(context),
        }
    }

    fn on(&mut self, event: Event) -> Action {
        match self.watch.on(&Proxy, event) {
            ConnectionDecision::Continue => Action::Continue,
            ConnectionDecision::Close => {
                host::close_connection();
                Action::Pause
            }
        }
    }
}

impl Context for NetworkFilter {}

/// Nothing happens in `on_new_connection`: it runs before the handshake, and to ask for a TLS
/// property there makes Envoy keep the empty answers.
impl StreamContext for NetworkFilter {
    fn on_downstream_data(&mut self, size: usize, end_of_stream: bool) -> Action {
        let mut action = Action::Continue;
        if size > 0 {
            action = self.on(Event::DownstreamData);
        }
        if end_of_stream && action == Action::Continue {
            action = self.on(Event::DownstreamEnd);
        }
        action
    }

    fn on_upstream_data(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        self.on(Event::UpstreamData)
    }

    fn on_downstream_close(&mut self, peer: PeerType) {
        let by_client = peer == PeerType::Remote;
        // Too late to refuse anyone.
        self.watch.on(&Proxy, Event::Close { by_client });
    }
}
