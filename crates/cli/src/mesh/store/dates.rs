//! The dates of CA certificates.

use std::collections::{BTreeMap, BTreeSet};

use exposition::Sample;
use mtls_watch_core::metrics::{NOT_AFTER, NOT_BEFORE, OWN_NOT_AFTER, OWN_NOT_BEFORE};
use mtls_watch_x509::time::UnixTime;

/// The dates of a CA's certificate, the same at every proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dates {
    pub(crate) ca: String,
    /// The first digits of its SHA-256; of a peer's they are not known.
    pub(crate) certificate: Option<String>,
    /// The label.
    pub(crate) layer: String,
    pub(crate) not_before: Option<UnixTime>,
    pub(crate) not_after: UnixTime,
}

/// Every certificate, each once.
pub(super) fn of(samples: &[Sample]) -> Vec<Dates> {
    let of = |sample: &Sample| {
        let certificate = sample.find_label("certificate").map(str::to_owned);
        (sample.label("identity").to_owned(), certificate)
    };
    let ends = [OWN_NOT_AFTER.description.name, NOT_AFTER.description.name];
    let begins = [OWN_NOT_BEFORE.description.name, NOT_BEFORE.description.name];
    let of_metrics = |names: [&'static str; 2]| {
        let samples = samples.iter();
        samples.filter(move |sample| names.contains(&&*sample.name))
    };
    let begins: BTreeMap<_, UnixTime> = of_metrics(begins)
        .map(|sample| (of(sample), UnixTime(sample.value as i64)))
        .collect();
    let mut all: BTreeMap<(String, Option<String>), Dates> = BTreeMap::new();
    for sample in of_metrics(ends) {
        let key = of(sample);
        let dates = Dates {
            ca: key.0.clone(),
            certificate: key.1.clone(),
            layer: sample.label("layer").to_owned(),
            not_before: begins.get(&key).copied(),
            not_after: UnixTime(sample.value as i64),
        };
        let known = all.entry(key).or_insert_with(|| dates.clone());
        if dates.not_after < known.not_after {
            *known = dates;
        }
    }
    let by_certificate: BTreeSet<String> = all
        .keys()
        .filter(|(_, certificate)| certificate.is_some())
        .map(|(ca, _)| ca.clone())
        .collect();
    // What a proxy holds is known more exactly than what is seen at a peer.
    let exact = |dates: &Dates| dates.certificate.is_some() || !by_certificate.contains(&dates.ca);
    all.into_values().filter(exact).collect()
}
