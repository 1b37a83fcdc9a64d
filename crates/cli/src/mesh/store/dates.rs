//! The dates of CA certificates.

use std::collections::{BTreeMap, BTreeSet};

use exposition::Sample;
use mtls_watch_core::metrics::{NOT_AFTER, NOT_BEFORE, OWN_NOT_AFTER, OWN_NOT_BEFORE};
use mtls_watch_core::policy::Judgement;
use mtls_watch_core::terms::{Finding, Layer, Thresholds};
use mtls_watch_x509::time::UnixTime;

use crate::mesh::proxy::Proxy;

/// The dates of a CA's certificate, the same at every proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dates {
    pub(crate) ca: String,
    /// The first digits of its SHA-256; of a peer's they are not known.
    pub(crate) certificate: Option<String>,
    /// The label.
    layer: String,
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

impl Dates {
    /// `None`: Envoy tells the dates only.
    pub(crate) fn layer(&self) -> Option<Layer> {
        let mut layers = Layer::ALL.iter().copied();
        layers.find(|layer| layer.as_str() == self.layer)
    }

    /// What is wrong with them.
    pub(crate) fn finding(&self, now: UnixTime, thresholds: &Thresholds) -> Option<Finding> {
        // Of a CA of which the layer is not known, as the module does.
        let layer = self.layer().unwrap_or(Layer::IssuingCa);
        let begin = self.not_before.unwrap_or(now);
        let judgement = Judgement::of_validity(begin, self.not_after, layer, thresholds);
        judgement.at(now).iter().next()
    }
}

/// The certificates of a CA that somebody holds or trusts now; if none is, those that are known.
pub(crate) fn current<'a>(ca: &str, proxies: &[Proxy], dates: &'a [Dates]) -> Vec<&'a Dates> {
    let mut held: BTreeSet<&str> = BTreeSet::new();
    for proxy in proxies {
        let bundles = proxy.bundles.iter().flat_map(|bundle| bundle.current());
        held.extend(bundles.filter(|(of, _)| *of == ca).filter_map(|(_, it)| it));
        let carried = proxy.chains.iter().flat_map(|chain| &chain.carried);
        let carried = carried.filter(|it| it.ca == ca);
        held.extend(carried.filter_map(|it| it.certificate.as_deref()));
    }
    let of_it = || dates.iter().filter(|it| it.ca == ca);
    let is_held = |it: &&Dates| {
        it.certificate
            .as_deref()
            .is_some_and(|it| held.contains(it))
    };
    let now: Vec<&Dates> = of_it().filter(is_held).collect();
    match now.is_empty() {
        true => of_it().collect(),
        false => now,
    }
}
