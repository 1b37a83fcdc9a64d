//! Certificates in order: which one is at which layer of the hierarchy, and which one signed which.

use std::borrow::Cow;

use strum::{IntoStaticStr, VariantArray};

use crate::certificate::Certificate;
use crate::time::UnixTime;

/// A certificate's place in the hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Layer {
    /// The leaf, or another one that came with it.
    Workload,
    /// The CA that signed the leaf.
    IssuingCa,
    /// Any other CA that is not self-issued.
    IntermediateCa,
    /// A self-issued CA.
    RootCa,
}

impl Layer {
    /// All values.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A certificate in its chain.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its facts.
    pub certificate: Certificate,
    /// Its place.
    pub layer: Layer,
    /// Index in the chain of the certificate that signed it, where that is present. A self-issued
    /// certificate has none.
    pub issuer: Option<usize>,
}

impl Member {
    /// The name under which the certificate is reported: a leaf's identity, a CA's name.
    #[must_use]
    pub fn identity(&self) -> Cow<'_, str> {
        match self.layer {
            Layer::Workload => Cow::Borrowed(&self.certificate.identity),
            _ => Cow::Owned(self.certificate.subject_ca()),
        }
    }
}

/// Puts certificates in order: the first is the leaf, the others are what came with it, in any order. What is no
/// CA, and has signed none of them, is another leaf.
#[must_use]
pub fn link(certificates: Vec<Certificate>) -> Vec<Member> {
    let signs = |index: usize, all: &[Certificate]| {
        let certificate = all.get(index).filter(|_| index > 0);
        certificate.is_some_and(|certificate| is_issuer(certificate, all))
    };
    arrange(certificates, signs)
}

/// Puts certificates in order of which it is known which ones sign: the CAs. All others are leaves.
#[must_use]
pub fn arrange(
    certificates: Vec<Certificate>,
    signs: impl Fn(usize, &[Certificate]) -> bool,
) -> Vec<Member> {
    let signs = |index| signs(index, &certificates);
    let places: Vec<_> = certificates
        .iter()
        .enumerate()
        .map(|(index, certificate)| {
            let issuer = issuer_of(certificate, &certificates, signs);
            let signer = issuer.and_then(|index| certificates.get(index));
            let signer = signer.map(Certificate::subject_ca);
            let layer = match signs(index) {
                true => ca_layer(certificate, &certificates, signs),
                false => Layer::Workload,
            };
            (layer, issuer, signer)
        })
        .collect();
    certificates
        .into_iter()
        .zip(places)
        .map(|(mut certificate, (layer, issuer, signer))| {
            certificate.signer = signer;
            Member {
                certificate,
                layer,
                issuer,
            }
        })
        .collect()
}

/// Adds the CAs above a peer's chain that this proxy knows and the peer did not send, up to the root.
pub fn complete(certificates: &mut Vec<Certificate>, known: &[Certificate]) {
    const MAX_ADDED: usize = 8;
    let mut top = 0;
    for _ in 0..MAX_ADDED {
        // As far as the peer sent it.
        while let Some(issuer) = certificates
            .get(top)
            // The first is the leaf: it signs nothing.
            .and_then(|certificate| issuer_of(certificate, certificates, |index| index > 0))
            .filter(|issuer| *issuer > top)
        {
            top = issuer;
        }
        let Some(last) = certificates.get(top) else {
            return;
        };
        let issuers = known.iter().filter(|ca| last.names_as_issuer(ca));
        // The first of equals.
        match issuers.rev().max_by_key(|ca| lasts(ca)) {
            Some(ca) if !last.is_self_issued() && !certificates.contains(ca) => {
                top = certificates.len();
                certificates.push(ca.clone());
            }
            _ => return,
        }
    }
}

fn issuer_of(
    certificate: &Certificate,
    all: &[Certificate],
    signs: impl Fn(usize) -> bool,
) -> Option<usize> {
    if certificate.is_self_issued() {
        return None;
    }
    let others = all.iter().enumerate();
    let signed =
        others.filter(|(index, issuer)| certificate.names_as_issuer(issuer) && signs(*index));
    // The first of equals.
    signed
        .rev()
        .max_by_key(|(_, issuer)| lasts(issuer))
        .map(|(index, _)| index)
}

/// Which of several certificates of one CA counts (renewed under the same key, or signed by different CAs): of
/// those that Envoy accepts as issuer, the one that lasts longest.
fn lasts(issuer: &Certificate) -> (bool, UnixTime) {
    (issuer.may_sign_certificates(), issuer.not_after)
}

fn ca_layer(ca: &Certificate, all: &[Certificate], signs: impl Fn(usize) -> bool) -> Layer {
    let mut others = all.iter().enumerate();
    if ca.is_self_issued() {
        Layer::RootCa
    } else if others.any(|(index, other)| other.names_as_issuer(ca) && !signs(index)) {
        Layer::IssuingCa
    } else {
        Layer::IntermediateCa
    }
}

/// Whether it is a CA, or another certificate says that it signed it.
fn is_issuer(certificate: &Certificate, all: &[Certificate]) -> bool {
    let signed =
        |other: &Certificate| !other.is_self_issued() && other.names_as_issuer(certificate);
    certificate.is_ca || certificate.is_old_root() || all.iter().any(signed)
}
