//! Metrics as a sidecar's `/stats/prometheus` has them.

use std::fmt::Write as _;

/// The time of the tests, for `--at`, and the same in Unix seconds.
pub const AT: &str = "2027-01-15T08:00:00Z";
pub const NOW: i64 = 1_800_000_000;

pub const OLD_ROOT: &str = "Root_CA:0a0a0a0a";
pub const OLD: &str = "Issuing_CA:0b0b0b0b";
pub const NEW_ROOT: &str = "Root_CA:1a1a1a1a";
pub const NEW: &str = "Issuing_CA:1b1b1b1b";

pub const WORKLOAD: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// A sidecar with the module, in the making.
#[derive(Clone, Default)]
pub struct Sidecar {
    text: String,
}

impl Sidecar {
    /// With the module loaded, and nothing of its hierarchy read.
    pub fn blind() -> Self {
        let mut sidecar = Self::default();
        sidecar.add("# TYPE mtls_watch_info gauge");
        sidecar.add("mtls_watch_info{version=\"0.1.0\"} 1");
        sidecar.add("envoy_server_live{} 1");
        sidecar
    }

    /// With these roots in its bundle.
    pub fn trusting(roots: &[&str]) -> Self {
        let bundle = roots.iter();
        bundle.fold(Self::blind(), |sidecar, root| {
            sidecar.bundle_ca("root_ca", root, true)
        })
    }

    /// A CA that is, or was, in the bundle.
    pub fn bundle_ca(mut self, layer: &str, ca: &str, present: bool) -> Self {
        let value = u8::from(present);
        self.add(&format!("mtls_trust_bundle_ca{{ca=\"{ca}\"}} {value}"));
        self.own(layer, "ROOTCA", ca, present)
    }

    /// With a leaf of its own and a chain of CAs, given with their layers.
    pub fn with_chain(self, cas: &[(&str, &str)]) -> Self {
        let leaf = self.own(
            "workload",
            "default",
            "spiffe://cluster.local/ns/shop/sa/web",
            true,
        );
        let chain = cas.iter();
        chain.fold(leaf, |sidecar, (layer, ca)| {
            sidecar.own(layer, "default", ca, true)
        })
    }

    /// With a leaf signed by that issuing CA; the chain does not show the root.
    pub fn signed_by(self, ca: &str) -> Self {
        self.with_chain(&[("issuing_ca", ca)])
    }

    /// With a leaf signed by that issuing CA, and the root in the chain.
    pub fn signed_under(self, ca: &str, root: &str) -> Self {
        self.with_chain(&[("issuing_ca", ca), ("root_ca", root)])
    }

    /// With that CA of the bundle above its chain.
    pub fn anchored_in(self, ca: &str) -> Self {
        let labels = format!("{{secret=\"default\",ca=\"{ca}\"}}");
        self.line(&format!("mtls_own_trust_anchor{labels} 1"))
    }

    /// A row of its own certificates.
    pub fn own(mut self, layer: &str, secret: &str, identity: &str, present: bool) -> Self {
        let labels = format!("{{layer=\"{layer}\",secret=\"{secret}\",identity=\"{identity}\"}}");
        let value = u8::from(present);
        self.add(&format!("mtls_own_certificate_present{labels} {value}"));
        self
    }

    /// A CA's start of validity.
    pub fn valid_from(mut self, ca: &str, days_ago: i64) -> Self {
        let labels = format!("{{layer=\"root_ca\",secret=\"ROOTCA\",identity=\"{ca}\"}}");
        let time = NOW - days_ago * 86_400;
        self.add(&format!(
            "mtls_own_certificate_not_before_timestamp_seconds{labels} {time}"
        ));
        self
    }

    /// Clients with leaves of that CA, last seen so many seconds ago.
    pub fn seen(mut self, ca: &str, seconds_ago: i64) -> Self {
        let time = NOW - seconds_ago;
        for direction in ["inbound", "outbound"] {
            let labels = format!("{{direction=\"{direction}\",issuer=\"{ca}\"}}");
            self.add(&format!("mtls_connections_by_issuer_total{labels} 7"));
        }
        let labels = format!("{{direction=\"inbound\",issuer=\"{ca}\"}}");
        self.add(&format!(
            "mtls_issuer_last_seen_timestamp_seconds{labels} {time}"
        ));
        self
    }

    /// Clients refused for an unknown CA.
    pub fn refused(mut self, number: u64) -> Self {
        self.add(&format!(
            "mtls_handshake_failures_total{{direction=\"inbound\",layer=\"workload\",reason=\"unknown_ca\"}} {number}"
        ));
        self
    }

    /// A certificate of a CA that is, or was, in a trust bundle, as metrics have it since 0.2.
    pub fn bundle(self, secret: &str, ca: &str, certificate: &str, present: bool) -> Self {
        self.bundle_of("root_ca", secret, ca, certificate, present)
    }

    /// The same for a CA that need not be a root.
    pub fn bundle_of(
        mut self,
        layer: &str,
        secret: &str,
        ca: &str,
        certificate: &str,
        present: bool,
    ) -> Self {
        let labels = format!("{{secret=\"{secret}\",ca=\"{ca}\",certificate=\"{certificate}\"}}");
        let value = u8::from(present);
        self.add(&format!("mtls_trust_bundle_ca{labels} {value}"));
        self.certificate(layer, secret, ca, certificate, present)
    }

    /// A certificate of a CA in a chain or a bundle.
    pub fn certificate(
        mut self,
        layer: &str,
        secret: &str,
        ca: &str,
        certificate: &str,
        present: bool,
    ) -> Self {
        let labels = format!(
            "{{layer=\"{layer}\",secret=\"{secret}\",identity=\"{ca}\",certificate=\"{certificate}\"}}"
        );
        let value = u8::from(present);
        self.add(&format!("mtls_own_certificate_present{labels} {value}"));
        self
    }

    /// A leaf with the CA that signed it and the CAs of its own bundles that it stands under, as metrics have it
    /// since 0.2. Nothing else of its chain is told.
    pub fn leaf(mut self, secret: &str, identity: &str, issuer: &str, anchors: &[&str]) -> Self {
        self = self.own("workload", secret, identity, true);
        self.add(&format!(
            "mtls_own_issuer{{secret=\"{secret}\",ca=\"{issuer}\"}} 1"
        ));
        for ca in anchors {
            self.add(&format!(
                "mtls_own_trust_anchor{{secret=\"{secret}\",ca=\"{ca}\"}} 1"
            ));
        }
        self
    }

    /// A workload's leaf in the secret `default`.
    pub fn workload(self, issuer: &str, anchors: &[&str]) -> Self {
        self.leaf("default", WORKLOAD, issuer, anchors)
    }

    /// The dates of a CA's certificate, in days from now.
    pub fn dates(mut self, secret: &str, ca: &str, certificate: &str, days: (i64, i64)) -> Self {
        let labels = format!(
            "{{layer=\"root_ca\",secret=\"{secret}\",identity=\"{ca}\",certificate=\"{certificate}\"}}"
        );
        for (edge, days) in [("before", days.0), ("after", days.1)] {
            let time = NOW + days * 86_400;
            self.add(&format!(
                "mtls_own_certificate_not_{edge}_timestamp_seconds{labels} {time}"
            ));
        }
        self
    }

    /// Handshakes that failed.
    pub fn failures(mut self, direction: &str, holder: &str, reason: &str, number: u64) -> Self {
        self.add(&format!(
            "mtls_handshake_failures_total{{direction=\"{direction}\",layer=\"none\",holder=\"{holder}\",reason=\"{reason}\"}} {number}"
        ));
        self
    }

    /// Any line.
    pub fn line(mut self, line: &str) -> Self {
        self.add(line);
        self
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn add(&mut self, line: &str) {
        writeln!(self.text, "{line}").unwrap();
    }
}
