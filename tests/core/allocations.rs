//! What is known costs no memory: not a request, not data on a connection.

use std::rc::Rc;

use allocation_counter::measure;
use mtls_watch::config::Config;
use mtls_watch::host::{Host, MetricId, MetricKind, Shared, Version, integer};
use mtls_watch::inspector::{
    ConnectionDecision, ConnectionWatch, Event, Inspector, RequestDecision, RequestWatch,
};
use mtls_watch::time::UnixTime;
use testbed::pki::ExtendedKeyUsage;

use crate::fake_host::{FakeHost, Listener, Proxy};
use crate::pki::workload;

/// The fake host until the peer is known, from then on one that takes no memory itself and has nothing
/// to say but the time.
struct Silent<'a>(&'a FakeHost);

impl Host for Silent<'_> {
    fn now(&self) -> Option<UnixTime> {
        self.0.now()
    }

    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        None
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
    inspector.start(&FakeHost::knowing_nothing(proxy));
    Rc::new(inspector)
}

/// A client with findings: those are counted at every request.
fn client(proxy: &Rc<Proxy>) -> FakeHost {
    let usages = [ExtendedKeyUsage::ServerAuth];
    let leaf = workload().extended_key_usages(&usages).issue().unwrap();
    FakeHost::new(proxy).on(Listener::Inbound).client(&leaf)
}

#[test]
fn a_request_on_a_known_connection_allocates_nothing() {
    let proxy = Proxy::new();
    let inspector = inspector(&proxy);
    let host = client(&proxy);
    let number = integer(&host, &["connection", "id"]);
    let request = |number, host: &dyn Host| {
        let mut watch = RequestWatch::new(Rc::clone(&inspector), number);
        assert_eq!(watch.on_request(host), RequestDecision::Continue);
        assert_eq!(watch.on_response(host), RequestDecision::Continue);
    };
    let first = measure(|| request(None, &host)).count_total;
    assert!(first > 0, "nothing is counted");
    let further = measure(|| request(number, &Silent(&host))).count_total;
    assert_eq!(further, 0);
}

#[test]
fn data_on_a_known_connection_allocates_nothing() {
    let proxy = Proxy::new();
    let host = client(&proxy);
    let mut watch = ConnectionWatch::new(inspector(&proxy));
    let mut data = |host: &dyn Host| {
        for event in [Event::DownstreamData, Event::UpstreamData] {
            assert_eq!(watch.on(host, event), ConnectionDecision::Continue);
        }
    };
    let first = measure(|| data(&host)).count_total;
    assert!(first > 0, "nothing is counted");
    assert_eq!(measure(|| data(&Silent(&host))).count_total, 0);
}
