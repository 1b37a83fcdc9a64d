//! Chains and bundles as control planes make them.

use std::fs;

use crate::metrics::{NEW, NEW_ROOT, OLD, OLD_ROOT, Sidecar};
use crate::project;
use crate::run::{json, reasons, verdict, verdicts};

const ROOTS: [&str; 4] = ["--old", OLD_ROOT, "--new", NEW_ROOT];
const SPIRE: [&str; 4] = ["--old", "SPIFFE:0a0a0a0a", "--new", "SPIFFE:1a1a1a1a"];
const ISTIO: [&str; 4] = [
    "--old",
    "cluster.local:aaaaaaaa",
    "--new",
    "Corp_Root_B:bbbbbbbb",
];
const A: &str = "cluster.local:aaaaaaaa";
const B: &str = "Corp_Root_B:bbbbbbbb";
const B_INT: &str = "Corp_Int_B:b1b1b1b1";

/// What Istio's `default` has: leaf, the CA's own chain, every root of the mesh.
fn istio(issuing: &[(&str, &str)], roots: &[&str]) -> Sidecar {
    let roots = roots.iter().map(|root| ("root_ca", *root));
    let chain: Vec<(&str, &str)> = issuing.iter().copied().chain(roots).collect();
    Sidecar::blind().with_chain(&chain)
}

fn rootca(sidecar: Sidecar, roots: &[&str]) -> Sidecar {
    let roots = roots.iter();
    roots.fold(sidecar, |sidecar, root| {
        sidecar.bundle_ca("root_ca", root, true)
    })
}

/// Metrics of 0.1 tell layers, and not who signed whom: a root that came along is not trusted, and signs nothing.
#[test]
fn a_root_in_a_chain_is_no_reason_to_trust_it() {
    let server = rootca(istio(&[], &[A]), &[A]).anchored_in(A);
    let client = rootca(istio(&[], &[A, B]), &[A, B]).anchored_in(A);
    let fleet = [("server", &server), ("client", &client)];
    let (code, report) = json(&[&ISTIO[..], &["--gate", "1"]].concat(), &fleet);
    assert_eq!((code, verdict(&report, 1)), (1, "closed".to_owned()));
    assert_eq!(reasons(&report, 1), [format!("server: does not trust {B}")]);
    assert_eq!(
        reasons(&report, 3),
        [
            format!("server: its leaf (default) is signed by {A}"),
            format!("client: its leaf (default) is signed by {A}"),
        ]
    );
    // B signs, and its intermediate is not under A because A came along.
    let moved = rootca(istio(&[("issuing_ca", B_INT)], &[A, B]), &[A, B]).anchored_in(B);
    let (_, report) = json(&ISTIO, &[("server", &server), ("client", &moved)]);
    assert_eq!(verdict(&report, 2), "closed");
    let (code, report) = json(&ISTIO, &[("server", &moved), ("client", &moved)]);
    assert_eq!((code, verdicts(&report)), (0, vec!["open"; 5]));
}

/// The same since 0.2, where the signer of a leaf is told.
#[test]
fn the_signer_is_told_by_name_and_key() {
    let signed = |issuer, anchors: &[&str], roots: &[&str]| {
        let sidecar = roots.iter().fold(Sidecar::blind(), |sidecar, root| {
            sidecar.bundle("ROOTCA", root, &root[root.len() - 8..], true)
        });
        let sidecar = sidecar.workload(issuer, anchors);
        // Passengers.
        [A, B].iter().fold(sidecar, |sidecar, root| {
            sidecar.own("root_ca", "default", root, true)
        })
    };
    let server = signed(A, &[A], &[A]);
    let client = signed(A, &[A], &[A, B]);
    let fleet = [("server", &server), ("client", &client)];
    assert_eq!(
        verdicts(&json(&ISTIO, &fleet).1),
        ["closed", "open", "closed", "closed", "closed"]
    );
    let early = signed(B_INT, &[B], &[A, B]);
    let (_, report) = json(&ISTIO, &[("server", &server), ("client", &early)]);
    assert_eq!(verdict(&report, 2), "closed");
    assert_eq!(
        reasons(&report, 2),
        [format!(
            "server: does not trust {B_INT}; it signs the leaf of client (default)"
        )]
    );
    let moved = signed(B_INT, &[B], &[A, B]);
    assert_eq!(json(&ISTIO, &[("web", &moved), ("cart", &moved)]).0, 0);
}

/// Each bundle is for itself: a root in a gateway's bundle for one backend opens nothing for the mesh.
#[test]
fn a_gate_is_judged_by_each_bundle_of_the_rotation() {
    let gateway = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .bundle("kubernetes://api-cert-cacert", OLD_ROOT, "0a0a0a0a", true)
        .bundle("kubernetes://api-cert-cacert", NEW_ROOT, "1a1a1a1a", true)
        .workload(OLD, &[OLD_ROOT]);
    let (code, report) = json(
        &[&ROOTS[..], &["--gate", "1"]].concat(),
        &[("gw", &gateway)],
    );
    assert_eq!((code, verdict(&report, 1)), (1, "closed".to_owned()));
    assert_eq!(
        reasons(&report, 1),
        [format!(
            "gw: does not trust {NEW_ROOT} in its bundle ROOTCA"
        )]
    );
    assert_eq!(report["gates"][0]["because"][0]["bundle"], "ROOTCA");
    // Envoy Gateway: the client CA of a listener, and the CA of a backend.
    let gateway = Sidecar::blind()
        .bundle("shop/ctp/ca.crt", OLD_ROOT, "0a0a0a0a", true)
        .bundle("backend-tls/shop-ca", NEW_ROOT, "1a1a1a1a", true)
        .leaf("shop/cert", "shop.example", "R11:77777777", &[]);
    let asked = |more: &[&str]| json(&[&ROOTS[..], more].concat(), &[("gw", &gateway)]).1;
    assert_eq!(verdict(&asked(&[]), 1), "closed");
    assert_eq!(
        verdict(&asked(&["--bundle", "shop/ctp/ca.crt"]), 1),
        "closed"
    );
    assert_eq!(
        verdict(&asked(&["--bundle", "backend-tls/shop-ca"]), 1),
        "open"
    );
    assert_eq!(
        reasons(&asked(&["--bundle", "ROOTCA"]), 1),
        ["gw: has no bundle ROOTCA (--bundle)"]
    );
}

#[test]
fn bundles_of_strangers_close_nothing() {
    let sidecar = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .bundle("ROOTCA", NEW_ROOT, "1a1a1a1a", true)
        .bundle(
            "configmap://eg-demo/backend-ca-cacert",
            "Demo_CA:dddddddd",
            "dddddddd",
            true,
        )
        .workload(NEW, &[NEW_ROOT]);
    assert_eq!(json(&ROOTS, &[("web", &sidecar)]).0, 0);
    assert_eq!(json(&[], &[("web", &sidecar)]).0, 0);
}

/// What the page about SPIRE says of the gates after a step.
fn documented(step: &str) -> String {
    let page = fs::read_to_string(project("docs/ca-rotation-spire.md")).unwrap();
    let mut rows = page.lines().map(|line| line.split('|').map(str::trim));
    let row = rows.find(|row| row.clone().nth(1) == Some(step)).unwrap();
    let gates = row.skip(4).take(5).map(|answer| &answer[..1]);
    gates.collect::<Vec<_>>().join(" ")
}

/// SPIRE: prepare, activate, taint, quiet, revoke. The chain is the leaf alone, and the bundle signs.
#[test]
fn the_gates_of_a_spire_rotation() {
    let (old, new) = (SPIRE[1], SPIRE[3]);
    let workload = |issuer: &str, last_seen: &[(&str, i64)], old_is_trusted: bool| {
        let sidecar = Sidecar::blind()
            .bundle("ROOTCA", old, "0a0a0a0a", old_is_trusted)
            .bundle("ROOTCA", new, "1a1a1a1a", true)
            .workload(issuer, &[issuer]);
        let seen = last_seen.iter();
        seen.fold(sidecar, |sidecar, (ca, seconds)| sidecar.seen(ca, *seconds))
    };
    let before = workload(old, &[(old, 5)], true);
    let tainted = workload(new, &[(old, 40), (new, 5)], true);
    let quiet = workload(new, &[(old, 7200), (new, 5)], true);
    let revoked = workload(new, &[(old, 7200), (new, 5)], false);
    for (step, sidecar, expected) in [
        ("prepare", &before, "y y n n n"),
        ("activate", &before, "y y n n n"),
        ("taint", &tainted, "y y y n n"),
        ("quiet", &quiet, "y y y y y"),
        ("revoke", &revoked, "y y y y y"),
    ] {
        let (_, report) = json(&SPIRE, &[("web", sidecar), ("cart", sidecar)]);
        let answers = verdicts(&report).into_iter();
        let answers: Vec<&str> = answers
            .map(|verdict| if verdict == "open" { "y" } else { "n" })
            .collect();
        assert_eq!(answers.join(" "), expected, "{step}: {report:#}");
        assert_eq!(
            documented(step),
            expected,
            "docs/ca-rotation-spire.md: {step}"
        );
    }
    // A node that lags when the new CA signs.
    let lagging = Sidecar::blind()
        .bundle("ROOTCA", old, "0a0a0a0a", true)
        .workload(old, &[old]);
    let (_, report) = json(&SPIRE, &[("web", &tainted), ("lag", &lagging)]);
    assert_eq!(
        (verdict(&report, 1), verdict(&report, 2)),
        ("closed".to_owned(), "closed".to_owned())
    );
}

/// Metrics of 0.1 name the CA above a leaf that comes alone: it is the signer.
#[test]
fn a_leaf_alone_is_signed_by_the_anchor_above_it() {
    let web = Sidecar::trusting(&[OLD_ROOT, NEW_ROOT])
        .with_chain(&[])
        .anchored_in(NEW_ROOT);
    assert_eq!(json(&ROOTS, &[("web", &web)]).0, 0);
    let waiting = Sidecar::trusting(&[OLD_ROOT, NEW_ROOT])
        .with_chain(&[])
        .anchored_in(OLD_ROOT);
    let (_, report) = json(&ROOTS, &[("web", &web), ("cart", &waiting)]);
    assert_eq!(
        reasons(&report, 3),
        [format!("cart: its leaf (default) is signed by {OLD_ROOT}")]
    );
}

#[test]
fn a_certificate_for_the_public_stands_under_no_bundle() {
    let gateway = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .bundle("ROOTCA", NEW_ROOT, "1a1a1a1a", true)
        .workload(NEW, &[NEW_ROOT])
        .leaf("kubernetes://shop", "shop.example", "R11:77777777", &[])
        .own("issuing_ca", "kubernetes://shop", "R11:77777777", true);
    assert_eq!(json(&ROOTS, &[("gw", &gateway)]).0, 0);
    assert_eq!(json(&[], &[("gw", &gateway)]).0, 0);
    // A workload that stands under none is one that nobody accepts.
    let lost = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .workload("Lost_CA:99999999", &["none"]);
    assert_eq!(json(&[], &[("web", &lost)]).0, 1);
    // Where no leaf names a workload, it cannot be told which is for the public.
    let plain = Sidecar::blind()
        .bundle("ca.pem", OLD_ROOT, "0a0a0a0a", true)
        .bundle("ca.pem", NEW_ROOT, "1a1a1a1a", true)
        .leaf("server.pem", "shop.example", "Issuing_CA:99999999", &[]);
    assert_eq!(verdict(&json(&ROOTS, &[("web", &plain)]).1, 3), "unknown");
}

/// Envoy presents what it had before.
#[test]
fn a_rejected_rotation_is_none() {
    let ready = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .bundle("ROOTCA", NEW_ROOT, "1a1a1a1a", true)
        .workload(NEW, &[NEW_ROOT]);
    assert_eq!(json(&ROOTS, &[("web", &ready)]).0, 0);
    for finding in ["rotation_rejected", "secret_warming"] {
        let finding = format!(
            "mtls_own_findings{{layer=\"workload\",secret=\"default\",finding=\"{finding}\"}} 1"
        );
        let (code, report) = json(&ROOTS, &[("web", &ready.clone().line(&finding))]);
        assert_eq!((code, verdict(&report, 3)), (1, "unknown".to_owned()));
    }
}

/// More certificates than places: which bundles there are is not known, unless one is named.
#[test]
fn bundles_without_a_name_are_unknown() {
    let gateway = Sidecar::blind()
        .bundle("ROOTCA", OLD_ROOT, "0a0a0a0a", true)
        .bundle("ROOTCA", NEW_ROOT, "1a1a1a1a", true)
        .line("mtls_trust_bundle_ca{secret=\"other\",ca=\"other\"} 1")
        .workload(OLD, &[OLD_ROOT]);
    let fleet = [("gw", &gateway)];
    assert_eq!(verdict(&json(&ROOTS, &fleet).1, 1), "unknown");
    let named = [&ROOTS[..], &["--bundle", "ROOTCA"]].concat();
    assert_eq!(verdict(&json(&named, &fleet).1, 1), "open");
}
