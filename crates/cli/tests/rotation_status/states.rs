//! The state of each CA where no rotation is named.

use crate::metrics::{NEW, NEW_ROOT, OLD, OLD_ROOT, Sidecar};
use crate::run::{json, state};

#[test]
fn a_fleet_at_rest_is_active() {
    let sidecar = Sidecar::trusting(&[OLD_ROOT])
        .signed_under(OLD, OLD_ROOT)
        .seen(OLD, 1);
    let (code, report) = json(&[], &[("web", &sidecar), ("cart", &sidecar)]);
    assert_eq!(code, 0);
    assert_eq!(state(&report, OLD_ROOT), "active");
    assert_eq!(state(&report, OLD), "active");
    assert_eq!(report["rotation"], serde_json::Value::Null);
    assert_eq!(report["gates"].as_array().unwrap().len(), 1);
}

#[test]
fn the_newer_of_one_name_makes_the_other_old() {
    let dated = Sidecar::trusting(&[OLD_ROOT, NEW_ROOT])
        .valid_from(OLD_ROOT, 1000)
        .valid_from(NEW_ROOT, 10);
    let (_, report) = json(&[], &[("web", &dated.clone().signed_under(OLD, OLD_ROOT))]);
    assert_eq!(state(&report, OLD_ROOT), "active");
    assert_eq!(state(&report, NEW_ROOT), "prepared");
    let (_, report) = json(&[], &[("web", &dated.clone().signed_under(NEW, NEW_ROOT))]);
    assert_eq!(state(&report, OLD_ROOT), "old");
    assert_eq!(state(&report, NEW_ROOT), "active");
}

#[test]
fn two_cas_of_unknown_age_are_both_active() {
    let sidecar =
        |issuing, root| Sidecar::trusting(&[OLD_ROOT, NEW_ROOT]).signed_under(issuing, root);
    let (web, cart) = (sidecar(OLD, OLD_ROOT), sidecar(NEW, NEW_ROOT));
    let (_, report) = json(&[], &[("web", &web), ("cart", &cart)]);
    assert_eq!(state(&report, OLD_ROOT), "active");
    assert_eq!(state(&report, NEW_ROOT), "active");
}

#[test]
fn a_root_that_signs_leaves_is_its_own_issuer() {
    let sidecar = Sidecar::trusting(&[OLD_ROOT]).with_chain(&[("root_ca", OLD_ROOT)]);
    let (code, report) = json(&[], &[("web", &sidecar)]);
    assert_eq!((code, state(&report, OLD_ROOT)), (0, "active"));
    assert_eq!(report["proxies"][0]["cas"][0]["signs_own_leaf"], true);
}

#[test]
fn an_intermediate_signs_through_the_issuing_ca() {
    let chain = [
        ("issuing_ca", OLD),
        ("intermediate_ca", "Zone_CA:22222222"),
        ("root_ca", OLD_ROOT),
    ];
    let sidecar = Sidecar::trusting(&[OLD_ROOT]).with_chain(&chain);
    let (_, report) = json(&[], &[("web", &sidecar)]);
    assert_eq!(state(&report, "Zone_CA:22222222"), "active");
    assert_eq!(report["cas"][2]["layer"], "intermediate_ca");
    assert_eq!(report["proxies"][0]["cas"][2]["through"], OLD_ROOT);
    // An intermediate in a bundle is an anchor for Envoy.
    let anchored = Sidecar::blind()
        .bundle_ca("intermediate_ca", "Zone_CA:22222222", true)
        .with_chain(&chain);
    let (code, report) = json(&[], &[("web", &anchored)]);
    assert_eq!(code, 0);
    assert_eq!(
        report["proxies"][0]["cas"][0]["through"],
        "Zone_CA:22222222"
    );
}

#[test]
fn a_ca_that_has_left_everything_is_retired() {
    let sidecar = Sidecar::trusting(&[NEW_ROOT])
        .signed_under(NEW, NEW_ROOT)
        .own("issuing_ca", "default", OLD, false)
        .bundle_ca("root_ca", OLD_ROOT, false)
        .seen(OLD, 90_000);
    let (code, report) = json(&[], &[("web", &sidecar)]);
    assert_eq!(code, 0);
    assert_eq!(state(&report, OLD), "retired");
    assert_eq!(state(&report, OLD_ROOT), "retired");
}

#[test]
fn a_proxy_without_a_leaf_of_its_own_signs_nothing() {
    let sidecar = Sidecar::trusting(&[OLD_ROOT]).seen(OLD, 1);
    let (code, report) = json(&[], &[("egress", &sidecar)]);
    assert_eq!(code, 0);
    assert_eq!(report["proxies"][0]["cas"][0]["signs_own_leaf"], false);
}
