//! What the core asks of the proxy around it. `filter` answers with Proxy-Wasm host calls, the tests
//! with a fake.

use mtls_watch_x509::time::{Seconds, UnixTime};

/// Between two ticks: how late gauges may be, and how stale the clock that data callbacks go by.
pub const TICK: Seconds = Seconds(5);
/// The same in milliseconds.
pub const TICK_MILLISECONDS: u32 = 5000;

/// Handle of a defined metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetricId(pub u32);

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Only goes up; increments of all workers add up.
    Counter,
    /// Holds the value written last, by whichever worker.
    Gauge,
    /// Distribution of recorded values.
    Histogram,
}

/// Version of a shared value, for compare-and-swap. 0: there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub u32);

/// What became of a write to shared data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// Written.
    Stored,
    /// Another worker wrote since the version was read.
    Conflict,
    /// The host refused.
    Refused,
}

/// The proxy. No method fails: what the host refuses is absent, or did not happen, and the caller
/// goes on without it.
pub trait Host {
    /// Current time, whole seconds; `None` if the clock cannot be read.
    fn now(&self) -> Option<UnixTime>;

    /// The same in nanoseconds.
    fn nanoseconds(&self) -> Option<u64> {
        self.now()?.gauge().checked_mul(1_000_000_000)
    }

    /// An attribute (Envoy: "Attributes"); `None` if absent, empty or refused.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;

    /// Sets filter state `wasm.<name>`, for access logs. It is gone with the request or connection
    /// that is being handled, unless it was declared otherwise.
    fn set_filter_state(&self, name: &str, value: &[u8]);

    /// Has filter state of that name stay as long as the client's connection, from its next write on,
    /// and be seen by all of its requests. Asked at load; `false` if the host cannot do that.
    fn declare_connection_state(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// First value of a request header.
    fn request_header(&self, name: &str) -> Option<Vec<u8>>;

    /// Sets a request header, or removes it.
    fn set_request_header(&self, name: &str, value: Option<&[u8]>);

    /// Sets a response header, or removes it.
    fn set_response_header(&self, name: &str, value: Option<&[u8]>);

    /// Names of the request's headers.
    fn request_header_names(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Names of the response's headers.
    fn response_header_names(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Defines a metric. Envoy makes a new handle at every call: ask once per name.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Option<MetricId>;

    /// Adds one to a counter.
    fn increment(&self, metric: MetricId);

    /// Sets a gauge, or adds a value to a histogram.
    fn record(&self, metric: MetricId, value: u64);

    /// A value that the workers share, and its version.
    fn shared(&self, key: &str) -> (Option<Vec<u8>>, Version);

    /// Sends GET to a cluster. The token comes back with the reply; `None` if it cannot be sent, which
    /// is all that a host without HTTP calls can answer.
    fn call(&self, cluster: &str, path: &str) -> Option<u32> {
        let _ = (cluster, path);
        None
    }

    /// Writes a shared value if it still has that version (version 0: in any case).
    fn share(&self, key: &str, value: &[u8], version: Version) -> Shared;
}

/// An attribute of type bool (Envoy sends one byte).
pub fn boolean(host: &dyn Host, path: &[&str]) -> bool {
    matches!(host.property(path).as_deref(), Some([1, ..]))
}

/// An attribute of type int or uint (Envoy sends eight bytes, little endian).
pub fn integer(host: &dyn Host, path: &[&str]) -> Option<u64> {
    let bytes = host.property(path)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}
