//! Which certificates of this proxy have series of their own. Envoy never deletes a metric, so there is a
//! limit to those that are there, and one to all that ever were.

use crate::host::Host;
use crate::metrics::admission::{Admission, Kind, MAX_OWN, MAX_OWN_EVER};

/// Those of a poll that have a place.
pub(super) struct Places {
    admitted: Vec<String>,
}

impl Places {
    /// Gives the places to the first of `wanted`. A certificate that is no longer there gives its place back.
    pub(super) fn assign(host: &dyn Host, wanted: impl IntoIterator<Item = String>) -> Self {
        let admission = Admission::new(Kind::Own, MAX_OWN_EVER);
        let mut admitted = Vec::new();
        for series in wanted {
            if admitted.len() >= MAX_OWN {
                break;
            }
            if admission.admits(host, &series) {
                admitted.push(series);
            }
        }
        Self { admitted }
    }

    /// Whether that one has a place.
    pub(super) fn has(&self, series: &str) -> bool {
        self.admitted.iter().any(|known| known == series)
    }
}
