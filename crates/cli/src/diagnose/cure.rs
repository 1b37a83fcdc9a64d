//! From what is wrong to who must change what.

use mtls_watch_core::handshake::{Holder, Reason};
use mtls_watch_core::terms::{Finding, Layer};

use super::handshake::Refused;
use super::line::Cure;
use super::target::{Origin, Pod, Target};

const RUNBOOKS: &str = "https://github.com/mtls-watch/mtls-watch/blob/main/docs/runbooks";

/// A thing that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Leaf,
    Ca,
    Bundle,
    Expectation,
}

/// The cure of a finding of a target's own certificate.
pub(super) fn of_finding(finding: Finding, layer: Layer, target: &Target) -> Cure {
    let thing = match layer {
        Layer::Workload => Thing::Leaf,
        _ => Thing::Ca,
    };
    Cure {
        who: who(thing, target),
        change: finding.hint().to_owned(),
        command: command(thing, target),
        runbook: runbook(of_finding_page(finding, layer)),
    }
}

/// The cure of a refusal: `refused` is the target whose certificate it is, `judge` the one that refuses it.
pub(super) fn of_refusal(why: &Refused, refused: &Target, judge: &Target) -> Cure {
    let is_leaf = why.layer.is_none_or(|layer| layer == Layer::Workload);
    let thing = match (why.holder, why.by_name) {
        (_, true) => Thing::Expectation,
        (Holder::Own, false) => Thing::Bundle,
        (_, false) if is_leaf => Thing::Leaf,
        (_, false) => Thing::Ca,
    };
    let concerned = match thing {
        Thing::Bundle | Thing::Expectation => judge,
        Thing::Leaf | Thing::Ca => refused,
    };
    Cure {
        who: who(thing, concerned),
        change: change(why),
        command: command(thing, concerned),
        runbook: runbook(of_reason_page(why)),
    }
}

/// The cure of a secret that nobody has supplied.
pub(super) fn of_missing(target: &Target) -> Cure {
    Cure {
        who: format!(
            "whoever supplies the secrets of {}: its agent and the control plane",
            target.name
        ),
        change: Reason::SecretMissing.hint().to_owned(),
        command: agent_log(target),
        runbook: runbook("MtlsHandshakeRefused"),
    }
}

/// The cure of a rotation that Envoy has rejected.
pub(super) fn of_rejected(target: &Target) -> Cure {
    Cure {
        who: format!("whoever issues the certificate of {}", target.name),
        change: Finding::RotationRejected.hint().to_owned(),
        command: agent_log(target),
        runbook: runbook("MtlsRotationStalled"),
    }
}

/// The cure of handshakes that the module has seen fail.
pub(super) fn of_failure(reason: Reason, holder: Option<Holder>, target: &Target) -> Cure {
    let name = &target.name;
    Cure {
        who: match holder {
            Some(Holder::Own) => {
                format!("whoever runs {name}: its certificate, trust bundle or lists")
            }
            Some(Holder::Peer) => format!("whoever issues the certificates of the peers of {name}"),
            Some(Holder::None) | None => format!("{name} or its peers: the counter does not tell"),
        },
        change: reason.hint().to_owned(),
        command: agent_log(target),
        runbook: runbook("MtlsHandshakeRefused"),
    }
}

/// Where to look when it is not said what is wrong.
pub(super) fn of_count(target: &Target) -> Cure {
    Cure {
        who: "either side: the counter does not tell".to_owned(),
        change: "find the other side, and diagnose both together".to_owned(),
        command: format!("mtls-watch diagnose CLIENT {}", target.name),
        runbook: runbook("MtlsHandshakeRefused"),
    }
}

fn change(why: &Refused) -> String {
    let hint = match (why.reason, why.holder) {
        (Reason::UnknownCa, Holder::Own) => {
            "add the CA that has signed it to the trust bundle, before anything else is issued from it"
        }
        (Reason::NameMismatch, _) if !why.by_name => {
            "issue a certificate whose names the CA may sign (its name constraints)"
        }
        (Reason::NameMismatch, _) => {
            "ask for the name that the certificate has, or issue it for the name that is asked for"
        }
        (Reason::Revoked, Holder::Own) => {
            "publish a current revocation list of every CA of the path"
        }
        (reason, _) => reason.hint(),
    };
    hint.to_owned()
}

fn who(thing: Thing, target: &Target) -> String {
    let name = &target.name;
    match thing {
        Thing::Leaf => format!("whoever issues the certificate of {name}"),
        Thing::Ca => format!("whoever runs the CA above {name}"),
        Thing::Bundle => format!("whoever distributes the trust bundle of {name}"),
        Thing::Expectation => {
            format!("whoever configures which names {name} accepts, or whoever named its peer")
        }
    }
}

fn command(thing: Thing, target: &Target) -> String {
    match (&target.origin, thing) {
        (Origin::Pod(pod), Thing::Leaf) => {
            format!("kubectl delete pod{} {}", options(pod), pod.name)
        }
        (Origin::Pod(_), Thing::Bundle) => agent_log(target),
        (Origin::Pod(_) | Origin::Ztunnel, Thing::Ca) => {
            "kubectl -n istio-system get secret cacerts -o json | mtls-watch inspect -".to_owned()
        }
        (Origin::Ztunnel, _) => {
            "kubectl -n istio-system logs daemonset/ztunnel --since=1h".to_owned()
        }
        (Origin::Series(url), Thing::Bundle) => {
            format!("mtls-watch rotation-status --prometheus {url}")
        }
        (Origin::Series(url), _) => format!("mtls-watch fleet --prometheus {url}"),
        (Origin::Secret(namespace, name), Thing::Leaf) => {
            format!("kubectl -n {namespace} get certificates.cert-manager.io -o wide | grep {name}")
        }
        (Origin::Secret(namespace, name), _) => {
            format!("kubectl -n {namespace} get secret {name} -o json | mtls-watch inspect -")
        }
        (Origin::Pod(pod), Thing::Expectation) => {
            format!(
                "istioctl proxy-config cluster{} {} -o json",
                options(pod),
                pod.name
            )
        }
        (Origin::Admin, _) => format!("curl -s {}/certs", target.name),
        (Origin::File, _) => format!("mtls-watch inspect {}", target.name),
    }
}

fn agent_log(target: &Target) -> String {
    match &target.origin {
        Origin::Pod(pod) => format!(
            "kubectl logs{} {} -c istio-proxy --since=1h",
            options(pod),
            pod.name
        ),
        Origin::Ztunnel => "kubectl -n istio-system logs daemonset/ztunnel --since=1h".to_owned(),
        Origin::Admin => format!("curl -s '{}/stats?filter=sds'", target.name),
        Origin::File | Origin::Secret(..) => format!("mtls-watch inspect {}", target.name),
        Origin::Series(url) => format!("mtls-watch fleet --prometheus {url}"),
    }
}

fn options(pod: &Pod) -> String {
    pod.options
        .iter()
        .map(|option| format!(" {option}"))
        .collect()
}

fn of_finding_page(finding: Finding, layer: Layer) -> &'static str {
    match (finding, layer) {
        (
            Finding::Expired
            | Finding::ExpiresCritical
            | Finding::ExpiresWarning
            | Finding::NotYetValid,
            layer,
        ) => of_layer_page(layer),
        (Finding::ClientAuthMissing | Finding::ServerAuthMissing, _) => "MtlsClientAuthMissing",
        (Finding::OutlivesIssuer, _) => "MtlsCertificateOutlivesIssuer",
        _ => "MtlsCertificateUnsound",
    }
}

fn of_reason_page(why: &Refused) -> &'static str {
    match (why.reason, why.holder) {
        (Reason::Expired, _) => of_layer_page(why.layer.unwrap_or(Layer::Workload)),
        (Reason::ClientAuthMissing | Reason::ServerAuthMissing, _) => "MtlsClientAuthMissing",
        (Reason::UnknownCa, Holder::Own) => "MtlsCardinalRuleBroken",
        _ => "MtlsHandshakeRefused",
    }
}

fn of_layer_page(layer: Layer) -> &'static str {
    match layer {
        Layer::Workload => "MtlsWorkloadCertificateExpiring",
        Layer::IssuingCa => "MtlsIssuingCaExpiring",
        Layer::IntermediateCa => "MtlsIntermediateCaExpiring",
        Layer::RootCa => "MtlsRootCaExpiring",
    }
}

fn runbook(page: &str) -> String {
    format!("{RUNBOOKS}/{page}.md")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_runbook_that_is_named_exists() {
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks");
        let findings = Finding::ALL.iter().flat_map(|finding| {
            Layer::ALL
                .iter()
                .map(|layer| of_finding_page(*finding, *layer))
        });
        let refused = |reason: Reason| Refused {
            reason,
            layer: None,
            holder: Holder::Own,
            by_name: false,
            detail: String::new(),
        };
        let reasons = Reason::ALL
            .iter()
            .map(|reason| of_reason_page(&refused(*reason)));
        for page in findings.chain(reasons).chain(["MtlsRotationStalled"]) {
            assert!(pages.join(format!("{page}.md")).is_file(), "{page}");
        }
    }
}
