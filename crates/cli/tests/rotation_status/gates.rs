//! The five steps, in order and out of order, for roots and for issuing CAs.

use std::fs;

use pki::Ca;
use tempfile::NamedTempFile;

use crate::metrics::{NEW, NEW_ROOT, NOW, OLD, OLD_ROOT, Sidecar};
use crate::run::{json, reasons, state, text, verdict, verdicts};

const ROOTS: [&str; 4] = ["--old", OLD_ROOT, "--new", NEW_ROOT];
const BOTH: [&str; 2] = [OLD_ROOT, NEW_ROOT];

fn with<'a>(rotation: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [rotation, more].concat()
}

#[test]
fn step_1_shows_who_lacks_the_new_root() {
    let done = Sidecar::trusting(&BOTH)
        .signed_under(OLD, OLD_ROOT)
        .seen(OLD, 5);
    let lacking = Sidecar::trusting(&[OLD_ROOT]).signed_under(OLD, OLD_ROOT);
    let fleet = [("web", &done), ("cart", &lacking)];
    let (code, report) = json(&with(&ROOTS, &["--gate", "1"]), &fleet);
    assert_eq!(code, 1);
    assert_eq!(
        verdicts(&report),
        ["closed", "open", "closed", "closed", "closed"]
    );
    assert_eq!(
        reasons(&report, 1),
        [format!("cart: does not trust {NEW_ROOT}")]
    );
    assert_eq!(state(&report, NEW_ROOT), "prepared");
    assert_eq!(state(&report, OLD_ROOT), "active");
    assert_eq!(report["cas"][1]["in_bundles"], 2);
    assert_eq!(report["cas"][2]["in_bundles"], 1);
}

#[test]
fn step_2_opens_the_gate_once_every_proxy_has_it() {
    let done = Sidecar::trusting(&BOTH).signed_under(OLD, OLD_ROOT);
    let fleet = [("web", &done), ("cart", &done)];
    let (code, report) = json(&with(&ROOTS, &["--gate", "1"]), &fleet);
    assert_eq!((code, verdict(&report, 1)), (0, "open".to_owned()));
    // The last gate, which decides unless another is named, is closed still.
    assert_eq!(json(&ROOTS, &fleet).0, 1);
}

#[test]
fn step_3_lists_what_is_signed_by_whom() {
    let moved = Sidecar::trusting(&BOTH)
        .signed_under(NEW, NEW_ROOT)
        .seen(OLD, 40);
    let waiting = Sidecar::trusting(&BOTH).signed_under(OLD, OLD_ROOT);
    let fleet = [("web", &moved), ("cart", &waiting)];
    let (code, report) = json(&with(&ROOTS, &["--gate", "3"]), &fleet);
    assert_eq!(code, 1);
    assert_eq!(
        verdicts(&report),
        ["open", "open", "closed", "closed", "closed"]
    );
    let own = format!("cart: its leaf (default) is signed by {OLD}, under {OLD_ROOT}");
    let peer = format!("web: met a peer with a leaf of {OLD} 40s ago, under {OLD_ROOT}");
    assert_eq!(reasons(&report, 3), vec![own.clone()]);
    assert_eq!(reasons(&report, 4), [peer.clone(), own.clone()]);
    assert_eq!(reasons(&report, 5), [own, peer]);
    assert_eq!(state(&report, NEW_ROOT), "active");
    assert_eq!(state(&report, NEW), "active");
    assert_eq!(state(&report, OLD_ROOT), "old");
    assert_eq!(state(&report, OLD), "old");
    let old = report["cas"]
        .as_array()
        .unwrap()
        .iter()
        .find(|ca| ca["ca"] == OLD_ROOT);
    assert_eq!(old.unwrap()["signs_leaves_of"], serde_json::json!(["cart"]));
    assert_eq!(old.unwrap()["last_seen"], NOW - 40);
}

#[test]
fn step_4_waits_until_the_old_ca_is_quiet() {
    let quiet = |seconds| {
        let sidecar = Sidecar::trusting(&BOTH)
            .signed_under(NEW, NEW_ROOT)
            .seen(OLD, seconds);
        // Only a proxy whose chain shows the old root tells what stood under it.
        json(
            &with(&["--old", OLD, "--new", NEW], &["--gate", "4"]),
            &[("web", &sidecar)],
        )
    };
    assert_eq!(verdict(&quiet(3599).1, 4), "closed");
    let (code, report) = quiet(3600);
    assert_eq!((code, verdict(&report, 4)), (0, "open".to_owned()));
    let sidecar = Sidecar::trusting(&BOTH)
        .signed_under(NEW, NEW_ROOT)
        .seen(OLD, 40);
    let arguments = ["--old", OLD, "--new", NEW, "--gate", "4", "--recent", "30s"];
    assert_eq!(json(&arguments, &[("web", &sidecar)]).0, 0);
}

#[test]
fn step_5_says_yes_and_then_the_old_root_is_retired() {
    let ready = Sidecar::trusting(&BOTH).signed_under(NEW, NEW_ROOT);
    let (code, report) = json(&ROOTS, &[("web", &ready)]);
    assert_eq!(code, 0);
    assert_eq!(verdicts(&report), ["open"; 5]);
    assert_eq!(state(&report, OLD_ROOT), "old");
    let removed = Sidecar::trusting(&[NEW_ROOT])
        .bundle_ca("root_ca", OLD_ROOT, false)
        .signed_under(NEW, NEW_ROOT);
    let (code, report) = json(&ROOTS, &[("web", &removed)]);
    assert_eq!((code, state(&report, OLD_ROOT)), (0, "retired"));
}

#[test]
fn the_wrong_order_breaks_the_cardinal_rule() {
    let early = Sidecar::trusting(&BOTH).signed_under(NEW, NEW_ROOT);
    let lacking = Sidecar::trusting(&[OLD_ROOT])
        .signed_under(OLD, OLD_ROOT)
        .refused(3);
    let fleet = [("web", &early), ("cart", &lacking)];
    let broken = format!(
        "cart: does not trust {NEW}; it signs the leaf of web (default); 3 handshakes refused for unknown_ca since the proxy started"
    );
    let (code, report) = json(&ROOTS, &fleet);
    assert_eq!((code, reasons(&report, 2)), (1, vec![broken.clone()]));
    // Without a rotation named, too; and whatever gate is asked for.
    let (code, report) = json(&[], &fleet);
    assert_eq!((code, reasons(&report, 2)), (1, vec![broken]));
    let both = Sidecar::trusting(&BOTH).signed_under(NEW, NEW_ROOT);
    let lost = Sidecar::trusting(&[NEW_ROOT]).signed_under(OLD, OLD_ROOT);
    let (code, report) = json(
        &with(&ROOTS, &["--gate", "1"]),
        &[("web", &both), ("cart", &lost)],
    );
    assert_eq!((code, verdict(&report, 1)), (1, "open".to_owned()));
    assert_eq!(
        reasons(&report, 2)[0],
        format!("cart: does not trust {OLD}; it signs the leaf of cart (default)")
    );
}

#[test]
fn the_old_root_removed_too_early_is_caught() {
    let early = Sidecar::trusting(&[NEW_ROOT])
        .bundle_ca("root_ca", OLD_ROOT, false)
        .signed_under(NEW, NEW_ROOT);
    let waiting = Sidecar::trusting(&BOTH).signed_under(OLD, OLD_ROOT);
    let (code, report) = json(&ROOTS, &[("web", &early), ("cart", &waiting)]);
    assert_eq!(code, 1);
    assert_eq!(
        reasons(&report, 2),
        [format!(
            "web: does not trust {OLD}; it signs the leaf of cart (default)"
        )]
    );
}

#[test]
fn no_gate_is_open_on_unknown() {
    let ready = Sidecar::trusting(&BOTH).signed_under(NEW, NEW_ROOT);
    let blind = Sidecar::blind();
    let (code, report) = json(&ROOTS, &[("web", &ready), ("job", &blind)]);
    assert_eq!((code, verdicts(&report)), (1, vec!["unknown"; 5]));
    assert!(reasons(&report, 5)[0].starts_with("job: no mtls_trust_bundle_ca"));
    assert_eq!(json(&[], &[("web", &ready), ("job", &blind)]).0, 1);
    let leaf_only = Sidecar::trusting(&BOTH).with_chain(&[]);
    let (_, report) = json(&ROOTS, &[("web", &ready), ("job", &leaf_only)]);
    assert_eq!(
        verdicts(&report),
        ["open", "unknown", "unknown", "unknown", "unknown"]
    );
    assert_eq!(
        reasons(&report, 3),
        ["job: its chain default does not show which CA signed its leaf"]
    );
    let nameless = Sidecar::trusting(&["serial:0a"]).signed_under(NEW, NEW_ROOT);
    let (_, report) = json(&ROOTS, &[("job", &nameless)]);
    assert_eq!(verdict(&report, 1), "unknown");
    let folded = ready.clone().seen("other", 9);
    let (_, report) = json(&ROOTS, &[("web", &folded)]);
    assert_eq!(
        verdicts(&report),
        ["open", "unknown", "open", "unknown", "unknown"]
    );
    let broken = ready.clone().line(
        "mtls_own_findings{layer=\"issuing_ca\",secret=\"default\",finding=\"unreadable\"} 1",
    );
    assert_eq!(verdict(&json(&ROOTS, &[("web", &broken)]).1, 3), "unknown");
    let broken = Sidecar::trusting(&[OLD_ROOT])
        .signed_under(OLD, OLD_ROOT)
        .line("mtls_own_findings{layer=\"root_ca\",secret=\"ROOTCA\",finding=\"unreadable\"} 1");
    assert_eq!(verdict(&json(&ROOTS, &[("web", &broken)]).1, 1), "unknown");
}

#[test]
fn a_misspelt_name_opens_nothing() {
    let ready = Sidecar::trusting(&BOTH).signed_under(NEW, NEW_ROOT);
    let (code, report) = json(
        &["--old", "Rot_CA:0a0a0a0a", "--new", NEW_ROOT],
        &[("web", &ready)],
    );
    assert_eq!(code, 1);
    assert_eq!(
        reasons(&report, 5),
        ["fleet: no series names Rot_CA:0a0a0a0a: check the name"]
    );
    assert_eq!(state(&report, "Rot_CA:0a0a0a0a"), "unseen");
}

#[test]
fn a_chain_without_its_root_says_nothing_of_the_root() {
    let sidecar = Sidecar::trusting(&BOTH).signed_by(OLD).seen(OLD, 5);
    let (code, report) = json(&ROOTS, &[("web", &sidecar)]);
    assert_eq!(code, 1);
    // It has accepted the CA and lost none of its bundle: it trusts it, whatever stands above.
    assert_eq!(
        verdicts(&report),
        ["open", "open", "unknown", "unknown", "unknown"]
    );
    assert_eq!(
        reasons(&report, 3),
        [format!(
            "web: its leaf (default) is signed by {OLD}, and it is not known whether that stands under {OLD_ROOT} (see --cas)"
        )]
    );
    let shrunk = sidecar
        .clone()
        .bundle_ca("root_ca", "Gone_CA:00000000", false);
    assert_eq!(verdict(&json(&ROOTS, &[("web", &shrunk)]).1, 2), "unknown");
}

/// Two roots and an issuing CA under each, by certificate.
struct Certificates {
    old_root: Ca,
    old: Ca,
    new_root: Ca,
    new: Ca,
    file: NamedTempFile,
}

fn name(ca: &Ca, common_name: &str) -> String {
    format!(
        "{}:{}",
        common_name.replace(' ', "_"),
        &ca.key_identifier()[..8]
    )
}

impl Certificates {
    fn new() -> Self {
        let root = || Ca::root("Root CA").issue().unwrap();
        let (old_root, new_root) = (root(), root());
        let issuing = |root: &Ca| root.subordinate("Issuing CA").issue().unwrap();
        let (old, new) = (issuing(&old_root), issuing(&new_root));
        let file = NamedTempFile::new().unwrap();
        let pem = [&old_root, &old, &new_root, &new].map(Ca::pem).concat();
        fs::write(file.path(), pem).unwrap();
        Self {
            old_root,
            old,
            new_root,
            new,
            file,
        }
    }

    fn names(&self) -> [String; 4] {
        [
            name(&self.old_root, "Root CA"),
            name(&self.old, "Issuing CA"),
            name(&self.new_root, "Root CA"),
            name(&self.new, "Issuing CA"),
        ]
    }

    fn path(&self) -> &str {
        self.file.path().to_str().unwrap()
    }
}

#[test]
fn certificates_of_the_cas_tell_what_chains_do_not() {
    let certificates = Certificates::new();
    let [old_root, old, new_root, new] = certificates.names();
    let arguments = [
        "--old",
        &old_root,
        "--new",
        &new_root,
        "--cas",
        certificates.path(),
    ];
    let both = [old_root.as_str(), new_root.as_str()];
    let before = Sidecar::trusting(&both).signed_by(&old);
    let after = Sidecar::trusting(&both).signed_by(&new);
    let (_, report) = json(&arguments, &[("web", &before), ("cart", &after)]);
    assert_eq!(
        verdicts(&report),
        ["open", "open", "closed", "closed", "closed"]
    );
    assert_eq!(state(&report, &old), "old");
    assert_eq!(json(&arguments, &[("cart", &after)]).0, 0);
    // The wrong order, of which the metrics alone show nothing but names.
    let lacking = Sidecar::trusting(&[&old_root]).signed_by(&old);
    let (_, report) = json(&arguments, &[("web", &lacking), ("cart", &after)]);
    assert_eq!(
        reasons(&report, 2),
        [format!(
            "web: does not trust {new}; it signs the leaf of cart (default)"
        )]
    );
}

#[test]
fn an_issuing_ca_rotates_below_its_root() {
    let root = Ca::root("Root CA").issue().unwrap();
    let issuing = || root.subordinate("Issuing CA").issue().unwrap();
    let (old, new) = (issuing(), issuing());
    let (top, old_name, new_name) = (
        name(&root, "Root CA"),
        name(&old, "Issuing CA"),
        name(&new, "Issuing CA"),
    );
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), [root.pem(), old.pem(), new.pem()].concat()).unwrap();
    let rotation = ["--old", &old_name, "--new", &new_name];
    let before = Sidecar::trusting(&[&top])
        .signed_by(&old_name)
        .seen(&old_name, 1);
    // A CA that has signed nothing yet is not in the metrics: only its certificate tells of it.
    let (_, report) = json(&with(&rotation, &["--gate", "1"]), &[("web", &before)]);
    assert_eq!(verdict(&report, 1), "unknown");
    let cas = ["--cas", file.path().to_str().unwrap()];
    let (code, report) = json(
        &with(&with(&rotation, &["--gate", "1"]), &cas),
        &[("web", &before)],
    );
    assert_eq!((code, state(&report, &new_name)), (0, "prepared"));
    assert_eq!(report["proxies"][0]["cas"][0]["in_bundle"], false);
    assert_eq!(report["proxies"][0]["cas"][0]["through"], top.as_str());
    let after = Sidecar::trusting(&[&top])
        .signed_by(&new_name)
        .seen(&old_name, 7200);
    let (code, report) = json(&with(&rotation, &cas), &[("web", &after)]);
    assert_eq!((code, state(&report, &old_name)), (0, "retired"));
    // What signs leaves is known exactly, with or without certificates.
    let (_, report) = json(&rotation, &[("web", &after), ("cart", &before)]);
    assert_eq!(verdict(&report, 3), "closed");
}

/// A chain seldom shows its root: the bundle does.
#[test]
fn the_anchor_tells_what_stands_above_a_chain() {
    let waiting = Sidecar::trusting(&BOTH).signed_by(OLD);
    let moved = Sidecar::trusting(&BOTH).signed_by(NEW).seen(OLD, 7200);
    let fleet = [("web", &moved), ("cart", &waiting)];
    let (_, report) = json(&ROOTS, &fleet);
    assert_eq!(verdict(&report, 3), "unknown");
    let (waiting, moved) = (waiting.anchored_in(OLD_ROOT), moved.anchored_in(NEW_ROOT));
    let (_, report) = json(&ROOTS, &[("web", &moved), ("cart", &waiting)]);
    assert_eq!(verdict(&report, 3), "closed");
    let under = format!("cart: its leaf (default) is signed by {OLD}, under {OLD_ROOT}");
    assert_eq!(reasons(&report, 3), [under]);
    let (code, _) = json(&ROOTS, &[("web", &moved), ("cart", &moved)]);
    // Only what peers have shown is left: web has met the old CA, and no chain shows its root now.
    assert_eq!(code, 0);
}

/// A series of an anchor that is one no more, and the word for none, are no CA.
#[test]
fn no_anchor_is_no_ca() {
    let left = "mtls_own_trust_anchor{secret=\"default\",ca=\"Root_CA:0a0a0a0a\"} 0";
    let sidecar = Sidecar::trusting(&BOTH)
        .signed_by(NEW)
        .anchored_in("none")
        .line(left);
    let (_, report) = json(&ROOTS, &[("web", &sidecar)]);
    assert_eq!(verdict(&report, 3), "unknown");
    assert_eq!(report["cas"][0]["above"], serde_json::json!([]));
}

/// The module gives series to the first hundred of the own certificates.
#[test]
fn a_ca_among_those_without_series_is_not_missing() {
    let sidecar = Sidecar::trusting(&[OLD_ROOT])
        .bundle_ca("root_ca", "other", true)
        .signed_under(OLD, OLD_ROOT);
    let (_, report) = json(&ROOTS, &[("web", &sidecar)]);
    assert_eq!(verdict(&report, 1), "unknown");
}

#[test]
fn names_may_be_written_as_in_log_lines() {
    let sidecar = Sidecar::trusting(&BOTH).signed_under(NEW, NEW_ROOT);
    let arguments = ["--old", "Root CA:0a0a0a0a", "--new", "Root CA:1a1a1a1a"];
    assert_eq!(json(&arguments, &[("web", &sidecar)]).0, 0);
}

#[test]
fn a_gateway_with_a_foreign_certificate_is_judged_by_the_cas_asked_for() {
    let gateway = Sidecar::trusting(&[OLD_ROOT])
        .signed_under(OLD, OLD_ROOT)
        .own("workload", "public", "shop.example", true)
        .own("issuing_ca", "public", "Public_CA:77777777", true)
        .own("root_ca", "public", "Public_Root:88888888", true);
    let fleet = [("gateway", &gateway)];
    assert_eq!(json(&[], &fleet).0, 1);
    let (code, report) = json(&["--ca", OLD_ROOT], &fleet);
    assert_eq!((code, report["cas"].as_array().unwrap().len()), (0, 2));
}

#[test]
fn the_text_answers_each_question() {
    let moved = Sidecar::trusting(&BOTH)
        .signed_under(NEW, NEW_ROOT)
        .seen(OLD, 3700);
    let waiting = Sidecar::trusting(&BOTH).signed_under(OLD, OLD_ROOT);
    let run = text(
        &ROOTS,
        &[
            ("web", &moved),
            ("cart", &waiting),
            ("job", &Sidecar::blind()),
        ],
    );
    assert_eq!(run.code, 1);
    for line in [
        "PROXY  CA                   IN BUNDLE  TRUSTED                   SIGNS OWN LEAF  PEERS LAST SEEN",
        "web    Issuing_CA:0b0b0b0b  no         through Root_CA:0a0a0a0a  no              1h 1m ago (inbound)",
        "       ! unknown: no mtls_trust_bundle_ca: set \"hierarchy\", and see mtls_watch_hierarchy_polls_total",
        "Root_CA:0a0a0a0a     root_ca     old     2 of 2, 1 unknown  cart             1h 1m ago",
        "3  has every proxy's own leaf moved off the old CA? no",
        "   no       cart: its leaf (default) is signed by Issuing_CA:0b0b0b0b, under Root_CA:0a0a0a0a",
        "gate 5 is closed",
    ] {
        assert!(run.stdout.contains(line), "{line}\n---\n{}", run.stdout);
    }
}
