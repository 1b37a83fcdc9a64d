//! What BoringSSL takes for a path, and what the metrics do not tell of it.

use std::fs;

use pki::Ca;
use tempfile::NamedTempFile;

use crate::metrics::{NEW, NEW_ROOT, OLD, OLD_ROOT, Sidecar};
use crate::run::{json, reasons, verdict};

const ROOTS: [&str; 4] = ["--old", OLD_ROOT, "--new", NEW_ROOT];

/// The issuing CA is in the bundle as well, and has ended: BoringSSL takes it, and not the root above it.
#[test]
fn an_expired_ca_of_the_bundle_hides_the_valid_one_above() {
    let web = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .bundle_of("issuing_ca", "ROOTCA", OLD, "0b0b0b0b", true)
        .workload(OLD, &[OLD, OLD_ROOT]);
    assert_eq!(json(&[], &[("web", &web)]).0, 0);
    let ended = web.clone().dates("ROOTCA", OLD, "0b0b0b0b", (-90, -1));
    let (code, report) = json(&[], &[("web", &ended)]);
    assert_eq!((code, verdict(&report, 2)), (1, "unknown".to_owned()));
    assert!(reasons(&report, 2)[0].contains("that is not valid"));
}

/// A chain whose issuing CA has ended is refused by whoever has the root alone.
#[test]
fn an_expired_ca_of_the_chain_is_no_way_to_the_root() {
    let web = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .certificate("issuing_ca", "default", OLD, "0b0b0b0b", true)
        .workload(OLD, &[OLD_ROOT]);
    assert_eq!(json(&[], &[("web", &web)]).0, 0);
    let ended = web.clone().dates("default", OLD, "0b0b0b0b", (-90, -1));
    assert_eq!(verdict(&json(&[], &[("web", &ended)]).1, 2), "unknown");
}

/// A peer was accepted by the issuing CA itself: that it sends the CA's certificate is not shown.
#[test]
fn a_peer_need_not_send_what_its_observer_did_not_need() {
    let cart = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .workload(OLD, &[OLD_ROOT]);
    let web = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .workload(OLD, &[OLD_ROOT])
        .seen(OLD, 5);
    assert_eq!(json(&[], &[("web", &web), ("cart", &cart)]).0, 0);
    let pinned = web.bundle_of("issuing_ca", "ROOTCA", OLD, "0b0b0b0b", true);
    let (_, report) = json(&[], &[("web", &pinned), ("cart", &cart)]);
    assert_eq!(verdict(&report, 2), "unknown");
    assert_eq!(
        reasons(&report, 2),
        [format!(
            "cart: trusts {OLD} only if peers send the certificate by which it stands under {OLD_ROOT}; it signs leaves that web meets"
        )]
    );
}

/// An intermediate that is sent along is a link, or comes along: the metrics do not tell.
#[test]
fn what_is_sent_along_is_not_known_to_be_a_link() {
    const ZONE: &str = "Zone_CA:22222222";
    let web = Sidecar::blind()
        .bundle("ROOTCA", NEW_ROOT, "1a1a1a1a", true)
        .certificate("intermediate_ca", "default", ZONE, "22222222", true)
        .workload(NEW, &[NEW_ROOT]);
    assert_eq!(json(&[], &[("web", &web)]).0, 0);
    let pinned = Sidecar::blind()
        .bundle_of("intermediate_ca", "ROOTCA", ZONE, "22222222", true)
        .workload(NEW, &["none"]);
    let (_, report) = json(&[], &[("web", &web), ("cart", &pinned)]);
    assert_eq!(verdict(&report, 2), "unknown");
    // Nor does a leaf count as moved off an intermediate that it may stand under.
    let rotation = ["--old", ZONE, "--new", "Zone_CA:33333333"];
    assert_eq!(verdict(&json(&rotation, &[("web", &web)]).1, 3), "unknown");
}

/// By a cross-certificate in its chain a leaf of the new root stands under the old one where that is all there is.
#[test]
fn a_cross_certificate_in_a_chain_may_be_what_a_bundle_needs() {
    let moved = |certificate: &str, layer: &str| {
        Sidecar::blind()
            .bundle("ROOTCA", NEW_ROOT, "1a1a1a1a", true)
            .certificate(layer, "default", NEW_ROOT, certificate, true)
            .workload(NEW_ROOT, &[NEW_ROOT])
    };
    let lagging = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .workload(NEW_ROOT, &["none"]);
    let gate_3 = |web: &Sidecar| {
        let (_, report) = json(&ROOTS, &[("web", web), ("cart", &lagging)]);
        verdict(&report, 3)
    };
    assert_eq!(gate_3(&moved("1a1a1a1a", "root_ca")), "open");
    assert_eq!(gate_3(&moved("cccccccc", "intermediate_ca")), "unknown");
    // Old and new root of one name: a certificate that is in no bundle is no root by that.
    assert_eq!(gate_3(&moved("cccccccc", "root_ca")), "unknown");
}

/// A bundle that has the cross-certificate alone may accept what stands under the old root, and lacks it.
#[test]
fn a_cross_certificate_in_a_bundle_concerns_the_old_root() {
    let web = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .bundle("next", NEW_ROOT, "1a1a1a1a", true)
        .workload(OLD, &[OLD_ROOT]);
    let pinned = Sidecar::blind()
        .bundle_of("intermediate_ca", "ROOTCA", NEW_ROOT, "cccccccc", true)
        .bundle("api", OLD_ROOT, "0a0a0a0a", true)
        .workload(OLD, &[OLD_ROOT]);
    let rotation = ["--old", OLD, "--new", "Issuing_CA:2b2b2b2b"];
    let gate_2 = |cart: &Sidecar| verdict(&json(&rotation, &[("web", &web), ("cart", cart)]).1, 2);
    assert_eq!(gate_2(&web), "open");
    assert_ne!(gate_2(&pinned), "open");
}

/// A leaf under the old intermediate has not moved, though its root is trusted for itself.
#[test]
fn a_leaf_under_the_old_intermediate_has_not_moved() {
    let root = Ca::root("Root CA").issue().unwrap();
    let zone = || root.subordinate("Zone CA").issue().unwrap();
    let (old, new) = (zone(), zone());
    let issuing = old.subordinate("Issuing CA").issue().unwrap();
    let file = NamedTempFile::new().unwrap();
    let pem = [&root, &old, &new, &issuing].map(Ca::pem).concat();
    fs::write(file.path(), pem).unwrap();
    let name = |ca: &Ca, name: &str| format!("{name}:{}", &ca.key_identifier()[..8]);
    let (top, old, new, issuing) = (
        name(&root, "Root_CA"),
        name(&old, "Zone_CA"),
        name(&new, "Zone_CA"),
        name(&issuing, "Issuing_CA"),
    );
    let web = Sidecar::blind()
        .bundle("ROOTCA", &top, "0a0a0a0a", true)
        .workload(&issuing, &[&top]);
    let file = file.path().to_str().unwrap();
    let rotation = ["--old", &old, "--new", &new, "--cas", file];
    assert_eq!(verdict(&json(&rotation, &[("web", &web)]).1, 3), "closed");
}
