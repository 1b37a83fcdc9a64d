//! An Envoy of the tests: a clock that they set, properties and headers that they give, metrics
//! and shared data that they look into.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use mtls_watch_core::host::{Host, MetricId, MetricKind, Shared, Version};
use mtls_watch_x509::time::UnixTime;
use pki::Identity;

use pki::fixtures::{NOW, fingerprint, xfcc_element};

/// The header in which Envoy tells the upstream of the client.
pub const XFCC: &str = "x-forwarded-client-cert";

/// What Envoy says of a peer that it has refused.
pub const REFUSED: &str = "TLS_error:|268435581:SSL routines:OPENSSL_internal:\
                           CERTIFICATE_VERIFY_FAILED:TLS_error_end";

/// A proxy: what all its workers have in common.
#[derive(Default)]
pub struct Proxy {
    clock: Cell<Option<i64>>,
    /// Beyond the clock's whole seconds.
    nanoseconds: Cell<u64>,
    handles: RefCell<Vec<(MetricKind, String)>>,
    metrics: RefCell<BTreeMap<String, Vec<u64>>>,
    shared: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    versions: Cell<u32>,
    between_read_and_write: RefCell<Option<Box<dyn FnOnce()>>>,
    answer_to_share: Cell<Option<Shared>>,
    refuses_metrics: Cell<bool>,
    keeps_no_state: Cell<bool>,
    definitions_asked: Cell<usize>,
    streams: Cell<u64>,
    calls: RefCell<Vec<String>>,
}

impl Proxy {
    /// A proxy at [`NOW`].
    pub fn new() -> Rc<Self> {
        let proxy = Self::default();
        proxy.clock.set(Some(NOW));
        Rc::new(proxy)
    }

    /// Sets the clock to so many seconds after [`NOW`].
    pub fn set_clock(&self, seconds: i64) {
        self.clock.set(Some(NOW + seconds));
    }

    /// Sets the clock to so many nanoseconds after a whole second.
    pub fn set_nanoseconds(&self, nanoseconds: u64) {
        self.nanoseconds.set(nanoseconds);
    }

    /// Has the clock fail.
    pub fn break_clock(&self) {
        self.clock.set(None);
    }

    /// Has something happen when a worker next writes shared data, before it does: what another
    /// worker does at that moment.
    pub fn before_next_share(&self, happens: impl FnOnce() + 'static) {
        self.between_read_and_write.replace(Some(Box::new(happens)));
    }

    /// Has the proxy refuse shared data.
    pub fn refuse_shared_data(&self) {
        self.answer_to_share.set(Some(Shared::Refused));
    }

    /// Has other workers be faster whenever one writes shared data.
    pub fn contend_for_shared_data(&self) {
        self.answer_to_share.set(Some(Shared::Conflict));
    }

    /// Overwrites all shared data with what no module writes.
    pub fn garble_shared_data(&self) {
        for (value, _) in self.shared.borrow_mut().values_mut() {
            *value = vec![0xff; 13];
        }
    }

    /// Has the proxy refuse to define metrics.
    pub fn refuse_metrics(&self) {
        self.refuses_metrics.set(true);
    }

    /// Has the proxy keep no filter state from one request of a connection to the next.
    pub fn keep_no_state(&self) {
        self.keeps_no_state.set(true);
    }

    /// The paths that were asked for, in HTTP calls.
    pub fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    /// The series that exist.
    pub fn series(&self) -> Vec<String> {
        self.metrics.borrow().keys().cloned().collect()
    }

    /// How many metrics the module has asked to define.
    pub fn definitions_asked(&self) -> usize {
        self.definitions_asked.get()
    }

    /// How often each series was defined at most.
    pub fn most_definitions(&self) -> usize {
        let handles = self.handles.borrow();
        let times = |name: &str| handles.iter().filter(|(_, other)| other == name).count();
        handles
            .iter()
            .map(|(_, name)| times(name))
            .max()
            .unwrap_or(0)
    }

    /// A counter's or gauge's value, `None` if there is no such series.
    pub fn value(&self, metric: &str, labels: &[(&str, &str)]) -> Option<u64> {
        self.recorded(metric, labels)?.last().copied()
    }

    /// The last value of a series by its whole name.
    pub fn total_of(&self, series: &str) -> Option<u64> {
        self.metrics.borrow().get(series)?.last().copied()
    }

    /// What a histogram has recorded.
    pub fn recorded(&self, metric: &str, labels: &[(&str, &str)]) -> Option<Vec<u64>> {
        let labels = labels
            .iter()
            .map(|(key, value)| format!("{key}=.={value};.;"));
        let series = labels.collect::<String>() + metric;
        self.metrics.borrow().get(&series).cloned()
    }

    /// The sum over all series of a counter.
    pub fn total(&self, metric: &str) -> u64 {
        let metrics = self.metrics.borrow();
        let of_metric = metrics.iter().filter(|(name, _)| {
            let name = name.rsplit(";.;").next();
            name == Some(metric)
        });
        of_metric.filter_map(|(_, values)| values.last()).sum()
    }
}

/// A connection, or a request on it, in a proxy.
pub struct FakeHost {
    proxy: Rc<Proxy>,
    properties: RefCell<BTreeMap<String, Vec<u8>>>,
    asked: RefCell<Vec<String>>,
    /// Whether no server has been chosen yet.
    no_server_yet: Cell<bool>,
    request_headers: RefCell<BTreeMap<String, Vec<u8>>>,
    response_headers: RefCell<BTreeMap<String, Vec<u8>>>,
}

/// `xds.listener_direction`.
#[derive(Clone, Copy, Debug)]
pub enum Listener {
    Inbound = 1,
    Outbound = 2,
}

impl FakeHost {
    /// A connection of which the proxy knows nothing but its number.
    pub fn new(proxy: &Rc<Proxy>) -> Self {
        proxy.streams.set(proxy.streams.get() + 1);
        Self::knowing_nothing(proxy).with("connection.id", proxy.streams.get().to_le_bytes())
    }

    /// A proxy that answers no question at all.
    pub fn knowing_nothing(proxy: &Rc<Proxy>) -> Self {
        Self {
            proxy: Rc::clone(proxy),
            properties: RefCell::default(),
            asked: RefCell::default(),
            no_server_yet: Cell::default(),
            request_headers: RefCell::default(),
            response_headers: RefCell::default(),
        }
    }

    /// Gives a property, its path joined with dots.
    pub fn with(self, path: &str, value: impl AsRef<[u8]>) -> Self {
        self.set(path, value);
        self
    }

    /// Sets a property from now on.
    pub fn set(&self, path: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref().to_vec();
        self.properties.borrow_mut().insert(path.to_owned(), value);
    }

    /// On a listener of that direction.
    pub fn on(self, listener: Listener) -> Self {
        self.with("xds.listener_direction", (listener as u64).to_le_bytes())
    }

    /// From a client that presented a certificate, of which Envoy tells the fingerprint only.
    pub fn mtls(self, client: &Identity) -> Self {
        self.with("connection.mtls", [1])
            .with("connection.tls_version", "TLSv1.3")
            .with(
                "connection.sha256_peer_certificate_digest",
                fingerprint(client),
            )
    }

    /// From a client whose leaf is in Envoy's attribute.
    pub fn client(self, client: &Identity) -> Self {
        self.mtls(client)
            .with("connection.peer_certificate", client.leaf_pem())
    }

    /// From a client whose chain Envoy writes into the XFCC header.
    pub fn client_with_chain(self, client: &Identity) -> Self {
        self.client(client).header(XFCC, &xfcc_element(client))
    }

    /// To a server that presented that certificate, and for which this proxy has one.
    pub fn server(self, server: &Identity) -> Self {
        self.with(
            "upstream.uri_san_local_certificate",
            "spiffe://cluster.local/ns/shop/sa/web",
        )
        .server_of_anybody(server)
    }

    /// To a server that presented that certificate, from a proxy that has none.
    pub fn server_of_anybody(self, server: &Identity) -> Self {
        self.with("upstream.address", "192.0.2.1:443")
            .with("upstream.tls_version", "TLSv1.3")
            .with(
                "upstream.sha256_peer_certificate_digest",
                fingerprint(server),
            )
            .with("upstream.peer_certificate", server.leaf_pem())
    }

    /// With a request header.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.set_request_header(name, Some(value.as_bytes()));
        self
    }

    /// What happens before a server is chosen.
    pub fn before_server<T>(&self, happens: impl FnOnce() -> T) -> T {
        self.no_server_yet.set(true);
        let result = happens();
        self.no_server_yet.set(false);
        result
    }

    /// A request header as the upstream receives it.
    pub fn upstream_header(&self, name: &str) -> Option<String> {
        text(&self.request_headers, name)
    }

    /// A response header as the client receives it.
    pub fn response_header(&self, name: &str) -> Option<String> {
        text(&self.response_headers, name)
    }

    /// A filter state object that the module has set.
    pub fn filter_state(&self, name: &str) -> Option<String> {
        text(&self.properties, name)
    }

    /// The properties that have been asked for since the last call.
    pub fn take_asked(&self) -> Vec<String> {
        self.asked.take()
    }
}

fn text(map: &RefCell<BTreeMap<String, Vec<u8>>>, name: &str) -> Option<String> {
    let map = map.borrow();
    map.get(name)
        .map(|value| String::from_utf8(value.clone()).unwrap())
}

impl Host for FakeHost {
    fn now(&self) -> Option<UnixTime> {
        self.proxy.clock.get().map(UnixTime)
    }

    fn nanoseconds(&self) -> Option<u64> {
        let seconds = u64::try_from(self.proxy.clock.get()?).unwrap();
        Some(seconds * 1_000_000_000 + self.proxy.nanoseconds.get())
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        let path = path.join(".");
        let hidden = self.no_server_yet.get() && path.starts_with("upstream.");
        let value = self.properties.borrow().get(&path).cloned();
        let value = value.filter(|_| !hidden);
        self.asked.borrow_mut().push(path);
        value.filter(|value| !value.is_empty())
    }

    /// It stays as long as this host, which is a connection.
    fn set_filter_state(&self, name: &str, value: &[u8]) {
        self.set(name, value);
    }

    fn declare_connection_state(&self, _name: &str) -> bool {
        !self.proxy.keeps_no_state.get()
    }

    fn request_header(&self, name: &str) -> Option<Vec<u8>> {
        self.request_headers.borrow().get(name).cloned()
    }

    fn set_request_header(&self, name: &str, value: Option<&[u8]>) {
        set(&self.request_headers, name, value);
    }

    fn set_response_header(&self, name: &str, value: Option<&[u8]>) {
        set(&self.response_headers, name, value);
    }

    fn request_header_names(&self) -> Vec<Vec<u8>> {
        names(&self.request_headers)
    }

    fn response_header_names(&self) -> Vec<Vec<u8>> {
        names(&self.response_headers)
    }

    fn call(&self, _cluster: &str, path: &str) -> Option<u32> {
        let mut calls = self.proxy.calls.borrow_mut();
        calls.push(path.to_owned());
        u32::try_from(calls.len()).ok()
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<MetricId> {
        let asked = self.proxy.definitions_asked.get();
        self.proxy.definitions_asked.set(asked + 1);
        if self.proxy.refuses_metrics.get() {
            return None;
        }
        let mut handles = self.proxy.handles.borrow_mut();
        handles.push((kind, name.to_owned()));
        let initial = match kind {
            MetricKind::Counter | MetricKind::Gauge => vec![0],
            MetricKind::Histogram => Vec::new(),
        };
        let mut metrics = self.proxy.metrics.borrow_mut();
        metrics.entry(name.to_owned()).or_insert(initial);
        Some(MetricId(u32::try_from(handles.len() - 1).unwrap()))
    }

    fn increment(&self, metric: MetricId) {
        let (kind, name) = self.proxy.handles.borrow()[metric.0 as usize].clone();
        assert_eq!(kind, MetricKind::Counter, "{name}");
        self.proxy.metrics.borrow_mut().get_mut(&name).unwrap()[0] += 1;
    }

    fn record(&self, metric: MetricId, value: u64) {
        let (kind, name) = self.proxy.handles.borrow()[metric.0 as usize].clone();
        let mut metrics = self.proxy.metrics.borrow_mut();
        let values = metrics.get_mut(&name).unwrap();
        match kind {
            MetricKind::Counter => panic!("{name}: a counter is not set"),
            MetricKind::Gauge => *values = vec![value],
            MetricKind::Histogram => values.push(value),
        }
    }

    fn shared(&self, key: &str) -> (Option<Vec<u8>>, Version) {
        match self.proxy.shared.borrow().get(key) {
            Some((value, version)) => (Some(value.clone()), Version(*version)),
            None => (None, Version(0)),
        }
    }

    fn share(&self, key: &str, value: &[u8], version: Version) -> Shared {
        if let Some(answer) = self.proxy.answer_to_share.get() {
            return answer;
        }
        if let Some(happens) = self.proxy.between_read_and_write.take() {
            happens();
        }
        let mut shared = self.proxy.shared.borrow_mut();
        let current = shared.get(key).map(|(_, version)| *version);
        if version.0 != 0 && current.is_some_and(|current| current != version.0) {
            return Shared::Conflict;
        }
        let next = self.proxy.versions.get() + 1;
        self.proxy.versions.set(next);
        shared.insert(key.to_owned(), (value.to_vec(), next));
        Shared::Stored
    }
}

fn names(headers: &RefCell<BTreeMap<String, Vec<u8>>>) -> Vec<Vec<u8>> {
    let headers = headers.borrow();
    headers.keys().map(|name| name.clone().into()).collect()
}

fn set(headers: &RefCell<BTreeMap<String, Vec<u8>>>, name: &str, value: Option<&[u8]>) {
    let mut headers = headers.borrow_mut();
    match value {
        Some(value) => headers.insert(name.to_owned(), value.to_vec()),
        None => headers.remove(name),
    };
}
