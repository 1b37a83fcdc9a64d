//! The SDK's context of an HTTP stream.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::streams;

/// By its number.
pub(crate) struct HttpFilter(pub(crate) u32);

impl Context for HttpFilter {}

impl HttpContext for HttpFilter {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        streams::on_request_headers(self.0)
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        streams::on_response_headers(self.0)
    }

    fn on_log(&mut self) {
        streams::on_log(self.0);
    }
}
