//! Path building and path validation (`X509_verify_cert`).

use mtls_watch_core::handshake::{Holder, Reason};
use mtls_watch_core::terms::{Direction, Layer};
use mtls_watch_x509::time::UnixTime;
use x509_cert::der::asn1::ObjectIdentifier;

use super::certificate::Certificate;
use super::{Refusal, layer, names, policy, signature};

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// Longest path: BoringSSL's default depth, which counts neither leaf nor anchor.
const MAX_PATH: usize = 102;

/// The trusted certificates (`X509_STORE`).
pub(super) struct Anchors {
    certificates: Vec<Certificate>,
}

impl Anchors {
    /// In the order of the file, each once.
    pub(super) fn new(certificates: Vec<Certificate>) -> Self {
        let mut kept: Vec<Certificate> = Vec::new();
        for certificate in certificates {
            if !kept
                .iter()
                .any(|there| there.fingerprint == certificate.fingerprint)
            {
                kept.push(certificate);
            }
        }
        Self { certificates: kept }
    }

    /// The first that may have signed it (`X509_STORE_CTX_get1_issuer`).
    fn issuer_of(&self, subject: &Certificate) -> Option<&Certificate> {
        let mut all = self.certificates.iter();
        all.find(|anchor| anchor.may_have_issued(subject))
    }

    fn contains(&self, certificate: &Certificate) -> bool {
        let mut all = self.certificates.iter();
        all.any(|anchor| anchor.fingerprint == certificate.fingerprint)
    }

    /// Whether a CA of that name is there, though with another key.
    fn knows_name_of_issuer(&self, subject: &Certificate) -> bool {
        let mut all = self.certificates.iter();
        all.any(|anchor| anchor.subject_canonical == subject.issuer_canonical)
    }
}

/// A path from the leaf up.
struct Path<'a> {
    certificates: Vec<&'a Certificate>,
    /// How many of them, from the leaf on, the peer sent.
    untrusted: usize,
}

/// Builds the path and validates it.
///
/// # Errors
/// The first [`Refusal`], in the order of BoringSSL.
pub(super) fn verify(
    sent: &[Certificate],
    anchors: &Anchors,
    direction: Direction,
    now: UnixTime,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let path = build(sent, anchors)?;
    path.check_extensions(direction)?;
    path.check_signatures_and_times(now)?;
    names::check(&path.certificates)
        .map_err(|(depth, detail)| path.refusal(Reason::NameMismatch, depth, detail))?;
    let steps = path.certificates.iter().map(|certificate| policy::Step {
        policies: &certificate.policies,
        is_self_issued: certificate.is_self_issued(),
    });
    policy::check(&steps.collect::<Vec<_>>())
        .map_err(|(depth, detail)| path.refusal(Reason::Other, depth, detail.to_owned()))?;
    Ok(path
        .certificates
        .iter()
        .map(|certificate| certificate.der.clone())
        .collect())
}

fn build<'a>(sent: &'a [Certificate], anchors: &'a Anchors) -> Result<Path<'a>, Refusal> {
    let Some(leaf) = sent.first() else {
        return Err(Refusal {
            reason: Reason::NoCertificate,
            depth: 0,
            layer: Layer::Workload,
            holder: Holder::Peer,
            detail: "no certificate".to_owned(),
        });
    };
    let mut path = Path {
        certificates: vec![leaf],
        untrusted: 1,
    };
    let mut top = leaf;
    let mut rest: Vec<&Certificate> = sent.iter().collect();
    while path.certificates.len() < MAX_PATH && !top.is_self_signed() {
        if anchors.issuer_of(top).is_some() {
            break;
        }
        let Some(at) = rest.iter().position(|issuer| issuer.may_have_issued(top)) else {
            break;
        };
        top = rest.remove(at);
        path.certificates.push(top);
        path.untrusted += 1;
    }
    let mut own_root = None;
    if top.is_self_signed() {
        if path.certificates.len() == 1 {
            let anchor = anchors.issuer_of(top);
            if anchor.is_none_or(|anchor| anchor.fingerprint != top.fingerprint) {
                let detail = "it is signed by itself and not in the bundle";
                return Err(path.refusal(Reason::SelfSigned, 0, detail.to_owned()));
            }
            path.untrusted = 0;
        } else {
            own_root = path.certificates.pop();
            path.untrusted -= 1;
            top = path.certificates.last().copied().unwrap_or(leaf);
        }
    }
    while path.certificates.len() < MAX_PATH && !top.is_self_signed() {
        let Some(issuer) = anchors.issuer_of(top) else {
            break;
        };
        path.certificates.push(issuer);
        top = issuer;
    }
    if path.untrusted < path.certificates.len() {
        return Ok(path);
    }
    // A leaf that is itself trusted needs nobody above it.
    if anchors.contains(leaf) {
        path.untrusted = 0;
        return Ok(path);
    }
    Err(path.untrusted_refusal(top, own_root, anchors))
}

impl Path<'_> {
    fn refusal(&self, reason: Reason, depth: usize, detail: String) -> Refusal {
        Refusal {
            reason,
            depth,
            layer: layer(depth, self.certificates.get(depth).copied()),
            holder: match depth < self.untrusted {
                true => Holder::Peer,
                false => Holder::Own,
            },
            detail,
        }
    }

    /// No path leads to the bundle. Where the bundle has the name of the missing CA with another key, it is the bundle
    /// that lags behind: a rotation.
    fn untrusted_refusal(
        &self,
        top: &Certificate,
        own_root: Option<&Certificate>,
        anchors: &Anchors,
    ) -> Refusal {
        let own_root = own_root.filter(|root| root.may_have_issued(top));
        let depth = self.certificates.len() - usize::from(own_root.is_none());
        let known = anchors.knows_name_of_issuer(top);
        let detail = match (known, own_root) {
            (true, _) => "the bundle has a CA of its issuer's name, but with another key",
            (false, Some(_)) => "the root that the peer sent is not in the bundle",
            (false, None) => "no CA of the bundle, and none that the peer sent, has signed it",
        };
        Refusal {
            reason: Reason::UnknownCa,
            depth,
            layer: layer(depth, Some(own_root.unwrap_or(top))),
            holder: match known {
                true => Holder::Own,
                false => Holder::Peer,
            },
            detail: detail.to_owned(),
        }
    }

    /// `check_chain_extensions`, which looks at what the peer sent only.
    fn check_extensions(&self, direction: Direction) -> Result<(), Refusal> {
        let is_client = direction == Direction::Inbound;
        let (purpose, name, missing) = match is_client {
            true => (CLIENT_AUTH, "clientAuth", Reason::ClientAuthMissing),
            false => (SERVER_AUTH, "serverAuth", Reason::ServerAuthMissing),
        };
        let mut below = 0;
        for (depth, certificate) in self.certificates.iter().take(self.untrusted).enumerate() {
            let refuse = |reason, detail: String| Err(self.refusal(reason, depth, detail));
            if let Some(oid) = certificate.unknown_critical {
                let detail = format!("critical extension {oid}, which BoringSSL does not know");
                return refuse(Reason::CriticalExtension, detail);
            }
            if depth > 0 && !certificate.is_ca() {
                let detail = "it has signed a certificate and is no CA (cA, keyCertSign)";
                return refuse(Reason::KeyUsage, detail.to_owned());
            }
            if !certificate.allows_purpose(purpose) {
                return refuse(missing, format!("extendedKeyUsage does not allow {name}"));
            }
            if depth == 0 && !certificate.allows_handshake(is_client) {
                let detail = "keyUsage does not allow digitalSignature";
                return refuse(Reason::KeyUsage, detail.to_owned());
            }
            if let Some(length) = certificate.path_length.filter(|_| depth > 1)
                && below > length + 1
            {
                let detail = format!("pathLenConstraint {length}, and {} CAs below", below - 1);
                return refuse(Reason::PathLength, detail);
            }
            if depth == 0 || !certificate.is_self_issued() {
                below += 1;
            }
        }
        Ok(())
    }

    /// `internal_verify`, from the top down. The signature of what is trusted is not verified.
    fn check_signatures_and_times(&self, now: UnixTime) -> Result<(), Refusal> {
        let mut issuer: Option<&Certificate> = None;
        for (depth, certificate) in self.certificates.iter().enumerate().rev() {
            if let Some(issuer) = issuer {
                signature::verify(certificate, issuer)
                    .map_err(|(reason, detail)| self.refusal(reason, depth, detail))?;
            }
            if now < certificate.not_before {
                let detail = format!("not valid before {}", certificate.not_before);
                return Err(self.refusal(Reason::NotYetValid, depth, detail));
            }
            // BoringSSL's validity ends before that second (`X509_cmp_time_posix`), RFC 5280's with it.
            if now >= certificate.not_after {
                let detail = format!("expired at {}", certificate.not_after);
                return Err(self.refusal(Reason::Expired, depth, detail));
            }
            issuer = Some(certificate);
        }
        Ok(())
    }
}
