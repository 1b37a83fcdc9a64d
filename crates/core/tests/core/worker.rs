//! A worker thread of a proxy, with the module in it.

use std::rc::Rc;

use mtls_watch_core::config::Config;
use mtls_watch_core::inspector::{ConnectionWatch, Decision, Event, Inspector, RequestWatch};
use mtls_watch_core::metrics::counters::Registry;
use mtls_watch_core::own::Reply;
use mtls_watch_core::own::parts::Whole;
use serde_json::Value;

use crate::fake_host::{FakeHost, Proxy};

pub struct Worker {
    proxy: Rc<Proxy>,
    registry: Rc<Registry>,
    inspector: Rc<Inspector>,
}

impl Worker {
    /// A worker with the default configuration.
    pub fn new(proxy: &Rc<Proxy>) -> Self {
        Self::configured(proxy, Value::Object(Default::default()))
    }

    pub fn configured(proxy: &Rc<Proxy>, configuration: Value) -> Self {
        Self::named(proxy, "", configuration)
    }

    /// The same, of a plugin that Envoy's configuration calls so.
    pub fn named(proxy: &Rc<Proxy>, name: &str, configuration: Value) -> Self {
        let registry = Rc::default();
        Self {
            proxy: Rc::clone(proxy),
            inspector: start(proxy, &registry, name, configuration),
            registry,
        }
    }

    /// The plugin's configuration has changed; the VM stays.
    pub fn configure_again(&mut self, configuration: Value) {
        self.inspector = start(&self.proxy, &self.registry, "", configuration);
    }

    /// The module's other filter, in the same VM.
    pub fn another_filter(&self) -> Self {
        let configuration = Value::Object(Default::default());
        Self {
            proxy: Rc::clone(&self.proxy),
            inspector: start(&self.proxy, &self.registry, "", configuration),
            registry: Rc::clone(&self.registry),
        }
    }

    /// A tick of Envoy's.
    pub fn tick(&self) {
        self.inspector.tick(&FakeHost::knowing_nothing(&self.proxy));
    }

    /// A reply to the call of that number.
    pub fn reply(&self, token: u32, body: &[u8]) {
        let host = FakeHost::knowing_nothing(&self.proxy);
        let mut whole = Whole(Some(body));
        let reply = Reply {
            size: body.len(),
            body: &mut whole,
        };
        self.inspector.on_reply(&host, token, Ok(reply));
    }

    /// A request that has come in, of which nothing else has happened yet.
    pub fn begin(&self, host: &FakeHost) -> RequestWatch {
        host.before_server(|| RequestWatch::begin(&self.inspector, host).0)
    }

    /// A request and its response: what was decided.
    pub fn request(&self, host: &FakeHost) -> Decision {
        let (mut watch, request) =
            host.before_server(|| RequestWatch::begin(&self.inspector, host));
        let response = watch.on_response(host);
        let decision = match (request, response) {
            (Decision::Continue, Decision::Continue) => Decision::Continue,
            _ => {
                // The refusal is a response too, and comes by in the same way.
                let refusal = watch.on_response(host);
                assert_eq!(refusal, Decision::Continue, "refused twice");
                Decision::Deny
            }
        };
        watch.on_log(host);
        decision
    }

    /// The same of a request that comes by behind the router, at each attempt to send it.
    pub fn attempt(&self, host: &FakeHost) -> RequestWatch {
        RequestWatch::begin(&self.inspector, host).0
    }

    /// A connection that has come in; nothing has happened on it yet.
    pub fn accept(&self) -> ConnectionWatch {
        ConnectionWatch::new(Rc::clone(&self.inspector))
    }

    /// A connection from the first byte to the end. What was decided at the first byte.
    pub fn connection(&self, host: &FakeHost) -> Decision {
        let mut watch = self.accept();
        let decision = watch.on(host, Event::DownstreamData);
        watch.on(host, Event::UpstreamData);
        watch.on(host, Event::Close { by_client: true });
        decision
    }
}

fn start(
    proxy: &Rc<Proxy>,
    registry: &Rc<Registry>,
    name: &str,
    configuration: Value,
) -> Rc<Inspector> {
    let config = Config::parse(configuration.to_string().as_bytes()).unwrap();
    let inspector = Rc::new(Inspector::new(config, Rc::clone(registry)));
    let host = FakeHost::knowing_nothing(proxy).with("plugin_name", name);
    inspector.start(&host, 0);
    inspector
}
