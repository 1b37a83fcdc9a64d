//! The HTTP filter.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::guard::HttpStream;
use super::host::{self, Proxy};
use crate::inspector::{RequestDecision, RequestWatch};

pub(super) struct HttpFilter {
    watch: RequestWatch,
    _taken_for: HttpStream,
}

impl HttpFilter {
    pub(super) fn new(watch: RequestWatch) -> Self {
        Self {
            watch,
            _taken_for: HttpStream::new(),
        }
    }
}

impl Context for HttpFilter {}

impl HttpContext for HttpFilter {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        act(self.watch.on_request(&Proxy))
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        act(self.watch.on_response(&Proxy))
    }
}

fn act(decision: RequestDecision) -> Action {
    match decision {
        RequestDecision::Continue => Action::Continue,
        RequestDecision::Deny => {
            host::deny_request();
            Action::Pause
        }
    }
}
