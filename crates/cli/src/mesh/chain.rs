//! A leaf of the proxy's own, and what is known of its chain.

use std::collections::BTreeSet;

use exposition::Sample;
use mtls_watch_core::metrics::{OWN_FINDINGS, OWN_ISSUER, OWN_TRUST_ANCHOR};
use mtls_watch_x509::time::UnixTime;

use super::bundle::Validity;
use super::series::{Presence, Processes, Row, nameless, of};

/// Instead of a CA's name: no CA of the proxy's bundles.
const NONE: &str = "none";

/// A leaf of the proxy's own, with its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The secret that holds it.
    pub(crate) secret: String,
    /// The CA that signed the leaf; `None` if that is not known.
    pub(crate) signer: Option<String>,
    /// The leaf has a SPIFFE ID.
    pub(crate) is_workload: bool,
    /// Where the leaf stands.
    pub(crate) standing: Standing,
    /// The CAs that are sent along, links or not.
    pub(crate) carried: Vec<Carried>,
    /// The CAs above the signer, by metrics of 0.1 that can be read in one way only.
    pub(crate) above: Vec<String>,
    /// Why the metrics do not tell what is presented.
    pub(crate) doubt: Option<&'static str>,
}

/// Where a leaf stands in its own proxy's bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Under these CAs.
    Under(Vec<String>),
    /// Under none of them.
    Nowhere,
    /// The metrics name no CA: it names no workload, so that it may be a server's certificate for the public and
    /// need none.
    Unnamed,
    /// Not known.
    Unknown,
}

/// A CA's certificate in a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    /// The CA.
    pub(crate) ca: String,
    /// The first digits of the certificate's SHA-256; metrics of 0.1 do not tell.
    pub(crate) certificate: Option<String>,
    /// It is between its dates, as far as they are known.
    pub(crate) is_valid: bool,
    /// It is self-issued.
    pub(crate) is_root: bool,
}

impl Chain {
    /// A chain of which the metrics say only that it is there.
    pub(crate) fn unreadable() -> Self {
        Self {
            secret: "unreadable".to_owned(),
            signer: None,
            is_workload: true,
            standing: Standing::Unknown,
            carried: Vec::new(),
            above: Vec::new(),
            doubt: None,
        }
    }

    /// The CAs of its own bundles that it stands under.
    pub(crate) fn anchors(&self) -> &[String] {
        match &self.standing {
            Standing::Under(anchors) => anchors,
            _ => &[],
        }
    }

    /// Whether a CA's certificate is sent along; of several one with these digits.
    pub(crate) fn carries(&self, ca: &str, certificate: Option<&str>) -> bool {
        let mut of_it = self.carried.iter().filter(|carried| carried.ca == ca);
        of_it.any(|carried| match (&carried.certificate, certificate) {
            (Some(known), Some(asked)) => known == asked,
            _ => true,
        })
    }
}

/// The chains that a scrape tells of: what is in a secret together with a leaf.
pub(crate) fn chains(samples: &[Sample], rows: &[Row<'_>], now: UnixTime) -> Vec<Chain> {
    let facts = Facts {
        rows,
        issuers: of(samples, &OWN_ISSUER).collect(),
        anchors: of(samples, &OWN_TRUST_ANCHOR).collect(),
        processes: Processes::of(samples),
        validity: Validity::new(samples, now),
    };
    let leaves = rows
        .iter()
        .filter(|row| row.presence != Presence::Gone && !row.is_ca());
    let secrets: BTreeSet<&str> = leaves.map(|row| row.secret).collect();
    let chains = secrets.into_iter().map(|secret| facts.chain(secret));
    let chains = chains.map(|chain| with_doubt(chain, samples));
    chains.collect()
}

fn is_finding(sample: &Sample, finding: &str) -> bool {
    sample.find_label("finding") == Some(finding) && sample.value > 0.0
}

/// Envoy does not always present what the secret has.
fn with_doubt(mut chain: Chain, samples: &[Sample]) -> Chain {
    let mut findings = of(samples, &OWN_FINDINGS)
        .filter(|sample| sample.find_label("secret") == Some(chain.secret.as_str()));
    let doubt = findings.find_map(|sample| {
        if is_finding(sample, "rotation_rejected") {
            Some("Envoy has rejected its certificate and presents an older one (rotation_rejected)")
        } else if is_finding(sample, "secret_warming") {
            Some("Envoy waits for its certificate (secret_warming)")
        } else {
            None
        }
    });
    chain.doubt = doubt;
    if doubt.is_some() {
        chain.signer = None;
    }
    chain
}

struct Facts<'a> {
    rows: &'a [Row<'a>],
    issuers: Vec<&'a Sample>,
    anchors: Vec<&'a Sample>,
    processes: Processes,
    validity: Validity,
}

impl Facts<'_> {
    fn chain(&self, secret: &str) -> Chain {
        let standing = self.standing(secret);
        let carried = self.carried(secret);
        let (signer, above) = match self.tells_issuers() {
            true => (self.issuer(secret), Vec::new()),
            false => by_layer(&self.layers(secret), &standing),
        };
        Chain {
            secret: secret.to_owned(),
            signer: signer.filter(|ca| !nameless(ca)),
            is_workload: self.is_workload(secret),
            standing,
            carried,
            above,
            doubt: None,
        }
    }

    /// Modules since 0.2 do.
    fn tells_issuers(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// The CA that signed the leaf. During a hot restart the two processes may have two leaves.
    fn issuer(&self, secret: &str) -> Option<String> {
        let mut present = self.present(&self.issuers, secret);
        let first = present.next()?;
        let is_sure = first.1 == Presence::Here && present.next().is_none();
        is_sure.then(|| first.0.to_owned())
    }

    fn present<'b>(
        &'b self,
        samples: &'b [&'b Sample],
        secret: &'b str,
    ) -> impl Iterator<Item = (&'b str, Presence)> {
        let of_it = samples
            .iter()
            .filter(move |sample| sample.find_label("secret") == Some(secret));
        let all = of_it.filter_map(|sample| {
            Some((
                sample.find_label("ca")?,
                self.processes.presence(sample.value),
            ))
        });
        all.filter(|(_, presence)| *presence != Presence::Gone)
    }

    fn standing(&self, secret: &str) -> Standing {
        let found: Vec<(&str, Presence)> = self.present(&self.anchors, secret).collect();
        let cas = found.iter().filter(|(ca, _)| *ca != NONE && !nameless(ca));
        let cas: Vec<String> = cas.map(|(ca, _)| (*ca).to_owned()).collect();
        if found
            .iter()
            .any(|(_, presence)| *presence != Presence::Here)
        {
            Standing::Unknown
        } else if !cas.is_empty() {
            Standing::Under(cas)
        } else if found.iter().any(|(ca, _)| *ca == NONE) {
            Standing::Nowhere
        } else if self.tells_issuers() && !self.is_workload(secret) {
            Standing::Unnamed
        } else {
            Standing::Unknown
        }
    }

    fn is_workload(&self, secret: &str) -> bool {
        let mut leaves = self.rows.iter().filter(|row| !row.is_ca());
        leaves.any(|row| row.secret == secret && row.identity.starts_with("spiffe://"))
    }

    fn carried(&self, secret: &str) -> Vec<Carried> {
        let cas = self
            .rows
            .iter()
            .filter(|row| row.is_ca() && row.presence != Presence::Gone && row.secret == secret);
        cas.map(|row| Carried {
            ca: row.identity.to_owned(),
            certificate: row.certificate.map(str::to_owned),
            is_valid: self.validity.of(secret, row.identity, row.certificate),
            is_root: row.layer == "root_ca",
        })
        .collect()
    }

    fn layers(&self, secret: &str) -> Layers {
        let of = |layer: &str| -> BTreeSet<String> {
            let of_it = |row: &&Row<'_>| {
                row.presence != Presence::Gone && row.secret == secret && row.layer == layer
            };
            let cas = self.rows.iter().filter(of_it);
            cas.map(|row| row.identity.to_owned()).collect()
        };
        Layers {
            issuing: of("issuing_ca"),
            intermediates: of("intermediate_ca"),
            roots: of("root_ca"),
        }
    }
}

/// The CAs of a chain by layer, links or not.
struct Layers {
    issuing: BTreeSet<String>,
    intermediates: BTreeSet<String>,
    roots: BTreeSet<String>,
}

/// The signer of a leaf and the CAs above it, by metrics of 0.1: they tell layers, and not who signed whom. So
/// a chain with several roots shows neither which of them signed the leaf nor which of them is above.
fn by_layer(layers: &Layers, standing: &Standing) -> (Option<String>, Vec<String>) {
    let only = |cas: &BTreeSet<String>| match cas.len() {
        1 => cas.first().cloned(),
        _ => None,
    };
    // The module has followed the names from the leaf up.
    let anchor = match standing {
        Standing::Under(anchors) => anchors.first().cloned(),
        _ => None,
    };
    let leaf_is_alone_under_roots = layers.issuing.is_empty() && layers.intermediates.is_empty();
    let signer = match leaf_is_alone_under_roots {
        true => anchor.or_else(|| only(&layers.roots)),
        false => only(&layers.issuing),
    };
    let is_a_line = *standing == Standing::Unknown
        && layers.intermediates.len() <= 1
        && layers.roots.len() <= 1;
    let above = match (&signer, is_a_line) {
        (Some(signer), true) => {
            let all = layers.intermediates.iter().chain(&layers.roots);
            all.filter(|ca| *ca != signer).cloned().collect()
        }
        _ => Vec::new(),
    };
    (signer, above)
}
