//! Handshakes that a proxy saw refused, by two scrapes of it.

use exposition::Sample;
use mtls_watch_core::metrics::HANDSHAKE_FAILURES;

use super::series::of;

/// Handshakes that were refused, since the proxy started and of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Refusals {
    /// Servers have refused this proxy as a client, by an alert.
    pub(crate) as_client: Count,
    /// This proxy has refused servers for `unknown_ca`.
    pub(crate) of_servers: Count,
    /// This proxy has refused clients for `unknown_ca`, who may be strangers.
    pub(crate) of_clients: Count,
}

/// A counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Count {
    /// Since the proxy started.
    pub(crate) total: u64,
    /// Since the earlier scrape; `None` if there is none.
    pub(crate) increase: Option<u64>,
}

impl Count {
    /// Whether it has gone up, as far as is known.
    pub(crate) const fn goes_on(self) -> Option<bool> {
        match self.increase {
            // What has never been has not gone up.
            None if self.total == 0 => Some(false),
            None => None,
            Some(increase) => Some(increase > 0),
        }
    }

    fn new(
        samples: &[Sample],
        earlier: Option<&[Sample]>,
        matches: impl Fn(&Sample) -> bool,
    ) -> Self {
        let sum = |samples: &[Sample]| {
            of(samples, &HANDSHAKE_FAILURES)
                .filter(|sample| matches(sample))
                .map(|sample| sample.value as u64)
                .fold(0, u64::saturating_add)
        };
        let total = sum(samples);
        let increase = earlier.map(|earlier| match sum(earlier) {
            // The proxy has restarted in between.
            before if before > total => total,
            before => total.saturating_sub(before),
        });
        Self { total, increase }
    }
}

impl Refusals {
    /// By a scrape, and an earlier one.
    pub(crate) fn new(samples: &[Sample], earlier: Option<&[Sample]>) -> Self {
        let count = |direction: &str, reason: &str| {
            Count::new(samples, earlier, |sample| {
                sample.find_label("direction") == Some(direction)
                    && sample.find_label("reason") == Some(reason)
            })
        };
        Self {
            as_client: count("outbound", "rejected_by_peer"),
            of_servers: count("outbound", "unknown_ca"),
            of_clients: count("inbound", "unknown_ca"),
        }
    }

    /// Whether a second scrape would tell more: something was refused once, and perhaps still is.
    pub(crate) const fn are_in_doubt(&self) -> bool {
        self.as_client.goes_on().is_none()
            || self.of_servers.goes_on().is_none()
            || self.of_clients.goes_on().is_none()
    }
}
