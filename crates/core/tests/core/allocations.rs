//! What is known costs no memory: not a request, not data on a connection.

use std::rc::Rc;

use allocation_counter::measure;
use mtls_watch_core::config::Config;
use mtls_watch_core::host::{Host, MetricId, MetricKind, Shared, Version};
use mtls_watch_core::inspector::{ConnectionWatch, Decision, Event, Inspector, RequestWatch};
use mtls_watch_x509::time::UnixTime;
use pki::ExtendedKeyUsage;

use crate::fake_host::{FakeHost, Listener, Proxy};
use pki::fixtures::workload;

/// A host that takes no memory but for what it answers: the time, and the filter state of the connection.
struct Silent<'a> {
    host: &'a FakeHost,
    state: Option<Vec<u8>>,
}

impl Host for Silent<'_> {
    fn now(&self) -> Option<UnixTime> {
        self.host.now()
    }

    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        self.state.clone()
    }

    fn set_filter_state(&self, _name: &str, _value: &[u8]) {}

    fn request_header(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn set_request_header(&self, _name: &str, _value: Option<&[u8]>) {}

    fn set_response_header(&self, _name: &str, _value: Option<&[u8]>) {}

    fn define_metric(&self, _kind: MetricKind, _name: &str) -> Option<MetricId> {
        None
    }

    fn increment(&self, _metric: MetricId) {}

    fn record(&self, _metric: MetricId, _value: u64) {}

    fn shared(&self, _key: &str) -> (Option<Vec<u8>>, Version) {
        (None, Version(0))
    }

    fn share(&self, _key: &str, _value: &[u8], _version: Version) -> Shared {
        Shared::Refused
    }
}

fn inspector(proxy: &Rc<Proxy>) -> Rc<Inspector> {
    let inspector = Inspector::new(Config::default(), Rc::default());
    inspector.start(&FakeHost::knowing_nothing(proxy), 0);
    Rc::new(inspector)
}

/// A client with findings: those are counted at every request.
fn client(proxy: &Rc<Proxy>) -> FakeHost {
    let usages = [ExtendedKeyUsage::ServerAuth];
    let leaf = workload().extended_key_usages(&usages).issue().unwrap();
    FakeHost::new(proxy).on(Listener::Inbound).client(&leaf)
}

/// A connection known by its number: what Envoy answers is the one allocation.
#[test]
fn a_request_on_a_known_connection_allocates_nothing_but_the_answer() {
    let proxy = Proxy::new();
    let inspector = inspector(&proxy);
    let host = client(&proxy);
    let request = |host: &dyn Host| {
        let (mut watch, decision) = RequestWatch::begin(&inspector, host);
        assert_eq!(decision, Decision::Continue);
        assert_eq!(watch.on_response(host), Decision::Continue);
        watch.on_log(host);
    };
    let first = measure(|| request(&host)).count_total;
    assert!(first > 1, "nothing is counted");
    let (host, state) = (&host, host.property(&["mtls.requests"]));
    let silent = Silent { host, state };
    let further = measure(|| request(&silent)).count_total;
    assert_eq!(further, 1);
}

#[test]
fn data_on_a_known_connection_allocates_nothing() {
    let proxy = Proxy::new();
    let host = client(&proxy);
    let mut watch = ConnectionWatch::new(inspector(&proxy));
    let mut data = |host: &dyn Host| {
        for event in [Event::DownstreamData, Event::UpstreamData] {
            assert_eq!(watch.on(host, event), Decision::Continue);
        }
    };
    let first = measure(|| data(&host)).count_total;
    assert!(first > 0, "nothing is counted");
    let (host, state) = (&host, None);
    assert_eq!(measure(|| data(&Silent { host, state })).count_total, 0);
}
