//! A proxy that answers at once: what is measured is the module.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use mtls_watch_core::host::{Host, MetricId, MetricKind, Shared, Version};
use mtls_watch_x509::time::UnixTime;

/// One whose connection has these properties, their paths joined with dots.
#[derive(Default)]
pub struct InstantHost {
    pub properties: HashMap<String, Vec<u8>>,
    shared: RefCell<HashMap<String, (Vec<u8>, u32)>>,
    metrics: Cell<u32>,
}

impl Host for InstantHost {
    fn now(&self) -> Option<UnixTime> {
        Some(UnixTime(pki::now()))
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.properties.get(&path.join(".")).cloned()
    }

    fn set_filter_state(&self, _name: &str, _value: &[u8]) {}

    fn request_header(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn set_request_header(&self, _name: &str, _value: Option<&[u8]>) {}

    fn set_response_header(&self, _name: &str, _value: Option<&[u8]>) {}

    fn define_metric(&self, _kind: MetricKind, _name: &str) -> Option<MetricId> {
        self.metrics.set(self.metrics.get() + 1);
        Some(MetricId(self.metrics.get()))
    }

    fn increment(&self, _metric: MetricId) {}

    fn record(&self, _metric: MetricId, _value: u64) {}

    fn shared(&self, key: &str) -> (Option<Vec<u8>>, Version) {
        match self.shared.borrow().get(key) {
            Some((value, version)) => (Some(value.clone()), Version(*version)),
            None => (None, Version(0)),
        }
    }

    fn share(&self, key: &str, value: &[u8], version: Version) -> Shared {
        let mut shared = self.shared.borrow_mut();
        let entry = shared.entry(key.to_owned()).or_default();
        *entry = (value.to_vec(), version.0 + 1);
        Shared::Stored
    }
}
