//! The SDK's context of a connection.

use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::{Action, PeerType};

use crate::streams;
use mtls_watch_core::inspector::Event;

/// By its number.
pub(crate) struct NetworkFilter(pub(crate) u32);

impl Context for NetworkFilter {}

/// Nothing happens in `on_new_connection`: it runs before the handshake, and to ask for a TLS
/// property there makes Envoy keep the empty answers.
impl StreamContext for NetworkFilter {
    fn on_downstream_data(&mut self, size: usize, end_of_stream: bool) -> Action {
        streams::on_downstream_data(self.0, size, end_of_stream)
    }

    fn on_upstream_data(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        streams::on_connection(self.0, Event::UpstreamData)
    }

    fn on_downstream_close(&mut self, peer: PeerType) {
        streams::on_connection(
            self.0,
            Event::Close {
                by_client: peer == PeerType::Remote,
            },
        );
    }

    fn on_log(&mut self) {
        streams::on_log(self.0);
    }
}
