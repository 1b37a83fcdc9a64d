//! `diagnose` on files: what is read, what is said, and how it ends. On real proxies: tests/diagnose.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mtls_watch_cli::{Output, execute};
use pki::{Ca, DAY, ExtendedKeyUsage, HOUR, Hierarchy, Identity, Lifetime, TrustBundle};
use serde_json::{Value, json};
use tempfile::TempDir;

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

fn run(arguments: &[&str]) -> Output {
    execute(
        ["mtls-watch", "diagnose"]
            .iter()
            .chain(arguments)
            .map(|it| (*it).to_owned()),
    )
}

fn json_of(arguments: &[&str]) -> (Value, u8) {
    let output = run(&[&["-o", "json"], arguments].concat());
    assert_eq!(output.complaint, "");
    (serde_json::from_str(&output.text).unwrap(), output.code)
}

fn secret(name: &str, identity: &Identity, bundle: &TrustBundle) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": "shop", "name": name},
        "data": {
            "tls.crt": STANDARD.encode(identity.chain_pem()),
            "ca.crt": STANDARD.encode(bundle.pem()),
        },
    })
    .to_string()
}

fn word(report: &Value) -> &str {
    report["verdict"]["word"].as_str().unwrap_or("none")
}

fn step<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut steps = report["targets"][0]["steps"].as_array().unwrap().iter();
    steps.find(|step| step["step"] == name).unwrap()
}

#[test]
fn each_finding_is_told_of_in_one_step() {
    let (files, cas) = (Files::new(), Hierarchy::new().unwrap());
    let years = Lifetime::from_now(-HOUR, 3 * 366 * DAY);
    let leaf = cas.leaf().uri(PAY).lifetime(years);
    let leaf = leaf.extended_key_usages(&[ExtendedKeyUsage::ServerAuth]);
    let secret = secret("pay", &leaf.issue().unwrap(), &cas.trust_bundle());
    let (report, _) = json_of(&[&files.write("pay.json", secret)]);
    for (word, expected) in [
        ("client_auth_missing", "usage"),
        ("validity_too_long", "chain"),
    ] {
        let tells = |step: &&str| step_has(&report, step, word);
        let steps = ["expiry", "chain", "names", "usage"];
        let steps: Vec<&str> = steps.into_iter().filter(|it| tells(it)).collect();
        assert_eq!(steps, [expected], "{word}: {report:#}");
    }
}

fn step_has(report: &Value, name: &str, word: &str) -> bool {
    let mut lines = step(report, name)["lines"].as_array().unwrap().iter();
    lines.any(|line| line["word"] == word)
}

#[test]
fn a_secret_that_is_sound() {
    let (files, cas) = (Files::new(), Hierarchy::new().unwrap());
    let pay = cas.leaf().uri(PAY).issue().unwrap();
    let file = files.write("pay.json", secret("pay", &pay, &cas.trust_bundle()));
    let (report, code) = json_of(&[&file]);
    assert_eq!(
        (&report["result"], code),
        (&json!("sound"), 0),
        "{report:#}"
    );
    assert_eq!(report["targets"][0]["identities"], json!([PAY]));
    for name in ["expiry", "chain", "names", "usage"] {
        assert_eq!(step(&report, name)["result"], "ok", "{name}");
    }
    // A file has no counters.
    assert_eq!(step(&report, "counters")["result"], "unseen");
    let text = run(&[&file]).text;
    assert!(
        text.contains("✔ 2 chain") && text.contains("? 5 Envoy's counters"),
        "{text}"
    );
    let too_long = text
        .lines()
        .find(|line| line.chars().count() > 80 && !line.contains("/tmp"));
    assert_eq!(too_long, None);
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn nothing_from_a_certificate_moves_the_cursor_or_is_invisible() {
    let (files, cas) = (Files::new(), Hierarchy::new().unwrap());
    for mark in ['\u{1b}', '\u{202e}', '\u{200b}'] {
        let leaf = cas.leaf().common_name(&format!("pay{mark}nimda"));
        let file = files.write("pay.pem", leaf.issue().unwrap().leaf_pem());
        let shown = run(&[&file]).text;
        let escaped = format!("pay{}nimda", mark.escape_unicode());
        assert!(shown.contains(&escaped) && !shown.contains(mark), "{shown}");
    }
}

#[test]
fn what_will_break_by_then() {
    let (files, root) = (Files::new(), Ca::root("Root CA").issue().unwrap());
    let issuing = root
        .subordinate("Issuing CA")
        .lifetime(Lifetime::from_now(-HOUR, 300 * DAY))
        .issue()
        .unwrap();
    let pay = issuing
        .leaf()
        .uri(PAY)
        .lifetime(Lifetime::from_now(-HOUR, 400 * DAY))
        .issue()
        .unwrap();
    let file = files.write("pay.json", secret("pay", &pay, &TrustBundle::of([&root])));
    let at = |days: i64| {
        let seconds = pki::now() + days * DAY;
        let (report, code) = json_of(&["--at", &rfc3339(seconds), &file]);
        (
            report["result"].as_str().unwrap().to_owned(),
            word(&report).to_owned(),
            code,
        )
    };
    let sentence = |result: &str, word: &str, code| (result.to_owned(), word.to_owned(), code);
    assert_eq!(at(0), sentence("sound", "none", 0));
    // 30 days or 16 % of the lifetime.
    assert_eq!(at(280), sentence("will_break", "expires_warning", 1));
    assert_eq!(at(301), sentence("broken", "expired", 1));
    let (report, _) = json_of(&[&file]);
    let next = report["next"]["text"].as_str().unwrap();
    assert!(next.starts_with("issuing CA Issuing CA:"), "{next}");
}

fn rfc3339(seconds: i64) -> String {
    mtls_watch_x509::time::UnixTime(seconds).to_string()
}

#[test]
fn each_fault_has_its_step() {
    let (files, cas) = (Files::new(), Hierarchy::new().unwrap());
    let leaf = || cas.leaf().uri(PAY);
    let stranger = Hierarchy::new().unwrap();
    let own = cas.trust_bundle();
    let server_only = [ExtendedKeyUsage::ServerAuth];
    for (name, identity, bundle, step, word) in [
        (
            "expired",
            leaf().lifetime(Lifetime::days(-1)).issue(),
            &own,
            "expiry",
            "expired",
        ),
        (
            "stalled",
            leaf()
                .lifetime(Lifetime::from_now(-23 * HOUR, HOUR))
                .issue(),
            &own,
            "expiry",
            "expires_critical",
        ),
        (
            "alone",
            leaf().issue().map(Identity::leaf_only),
            &own,
            "chain",
            "unknown_ca",
        ),
        (
            "rotated",
            leaf().issue(),
            &stranger.trust_bundle(),
            "chain",
            "unknown_ca",
        ),
        (
            "no SPIFFE ID",
            cas.leaf().uri("spiffe://cluster.local/ns//sa/pay").issue(),
            &own,
            "names",
            "spiffe_id_invalid",
        ),
        (
            "server",
            leaf().extended_key_usages(&server_only).issue(),
            &own,
            "usage",
            "client_auth_missing",
        ),
    ] {
        let file = files.write("pay.json", secret("pay", &identity.unwrap(), bundle));
        let (report, code) = json_of(&[&file]);
        let verdict = &report["verdict"];
        assert_eq!(
            (verdict["step"].as_str(), verdict["word"].as_str(), code),
            (Some(step), Some(word), 1),
            "{name}"
        );
        for key in ["who", "change", "command", "runbook"] {
            assert!(
                verdict[key].as_str().is_some_and(|text| !text.is_empty()),
                "{name}: {key}"
            );
        }
    }
}

#[test]
fn a_client_and_a_server() {
    let (files, cas) = (Files::new(), Hierarchy::new().unwrap());
    let other = Hierarchy::new().unwrap();
    let cart = cas.leaf().uri(CART).issue().unwrap();
    let pay = cas.leaf().uri(PAY).issue().unwrap();
    let client = files.write("cart.json", secret("cart", &cart, &cas.trust_bundle()));
    let server = files.write("pay.json", secret("pay", &pay, &cas.trust_bundle()));
    let (report, code) = json_of(&[&client, &server]);
    assert_eq!(
        (&report["handshakes"][0]["accepted"], code),
        (&json!(true), 0),
        "{report:#}"
    );
    let server = files.write("pay.json", secret("pay", &pay, &other.trust_bundle()));
    let (report, code) = json_of(&[&client, &server]);
    assert_eq!(
        (&report["handshakes"][0]["accepted"], code),
        (&json!(false), 1)
    );
    // What the server does not know concerns the client's certificate, and the server's bundle must be changed.
    assert_eq!(report["verdict"]["target"], json!(client));
    assert_eq!(
        report["verdict"]["who"],
        json!(format!("whoever distributes the trust bundle of {server}"))
    );
    assert!(report["verdict"]["text"].as_str().unwrap().contains(CART));
}

#[test]
fn pem_and_its_bundle() {
    let (files, cas) = (Files::new(), Hierarchy::new().unwrap());
    let pay = cas.leaf().dns("pay.shop.test").issue().unwrap();
    let chain = files.write("chain.pem", pay.chain_pem());
    let bundle = files.write("bundle.pem", cas.trust_bundle().pem());
    let (report, code) = json_of(&[&chain]);
    assert_eq!(
        (&step(&report, "chain")["result"], code),
        (&json!("unseen"), 0)
    );
    let (report, code) = json_of(&["--trusted", &bundle, &chain]);
    assert_eq!(
        (&step(&report, "chain")["result"], code),
        (&json!("ok"), 0),
        "{report:#}"
    );
}

/// What `istioctl proxy-config secret -o json` writes: secrets, without the listeners that use them.
#[test]
fn secrets_of_istioctl() {
    let (files, cas) = (Files::new(), Hierarchy::new().unwrap());
    let pay = cas.leaf().uri(PAY).issue().unwrap();
    let dump = json!({
        "dynamicActiveSecrets": [
            {"name": "default", "secret": {"name": "default", "tlsCertificate": {
                "certificateChain": {"inlineBytes": STANDARD.encode(pay.chain_pem())},
                "privateKey": {"inlineBytes": "W3JlZGFjdGVkXQ=="},
            }}},
            {"name": "ROOTCA", "secret": {"name": "ROOTCA", "validationContext": {
                "trustedCa": {"inlineBytes": STANDARD.encode(cas.trust_bundle().pem())},
            }}},
        ],
        "dynamicWarmingSecrets": [{"name": "kubernetes://shop", "secret": {"name": "kubernetes://shop"}}],
    });
    let file = files.write("secrets.json", dump.to_string());
    let (report, code) = json_of(&[&file]);
    assert_eq!(step(&report, "chain")["result"], "ok", "{report:#}");
    assert_eq!((word(&report), code), ("secret_warming", 1));
    // Half of it: one clear line.
    let text = dump.to_string();
    let half = files.write("half.json", &text[..text.len() / 2]);
    let output = run(&[&half]);
    assert_eq!((output.code, output.text.as_str()), (2, ""));
    assert!(
        output
            .complaint
            .contains("half.json: it ends in the middle"),
        "{}",
        output.complaint
    );
    assert_eq!(output.complaint.lines().count(), 1);
}

/// Every identity of a node, in each of the shapes that ztunnel and istioctl have had.
#[test]
fn ztunnels_dump() {
    let (files, cas) = (Files::new(), Hierarchy::new().unwrap());
    let pem = |text: String| json!({"pem": text});
    let of = |uri: &str, lifetime| {
        cas.issuing
            .leaf()
            .uri(uri)
            .lifetime(lifetime)
            .issue()
            .unwrap()
    };
    let (cart, pay) = (of(CART, Lifetime::days(1)), of(PAY, Lifetime::days(-1)));
    let chain = |identity: &Identity| {
        json!([
            pem(identity.leaf_pem()),
            pem(cas.issuing.pem()),
            pem(cas.intermediate.pem())
        ])
    };
    let newer = |identity: &Identity, uri: &str| json!({"identity": uri, "state": "Available", "certChain": chain(identity), "rootCerts": [pem(cas.root.pem())]});
    let mut older_chain = chain(&cart);
    older_chain
        .as_array_mut()
        .unwrap()
        .push(pem(cas.root.pem()));
    let older = json!({"identity": CART, "state": "Available", "certChain": older_chain});
    let without =
        json!({"identity": PAY, "state": {"Unavailable": "signing gRPC error"}, "certChain": []});
    for (name, entries, expected, code) in [
        ("sound", json!([newer(&cart, CART)]), "none", 0),
        ("root last in the chain", json!([older]), "none", 0),
        (
            "one has ended",
            json!([newer(&cart, CART), newer(&pay, PAY)]),
            "expired",
            1,
        ),
        (
            "one without",
            json!([newer(&cart, CART), without]),
            "secret_warming",
            1,
        ),
    ] {
        for dump in [json!({"certificates": entries, "workloads": []}), entries] {
            let file = files.write("ztunnel.json", dump.to_string());
            let (report, found) = json_of(&[&file]);
            assert_eq!(
                (word(&report), found),
                (expected, code),
                "{name}: {report:#}"
            );
        }
    }
}

#[test]
fn what_is_none_is_said_in_one_line() {
    let files = Files::new();
    for (content, expected) in [
        ("", "the input is empty"),
        ("hello", "no certificate"),
        ("{\"configs\": []}", "neither secrets nor TLS contexts"),
        (
            "{\"configs\": [{\"dynamic_active_secrets\": 3}]}",
            "not the JSON of a config dump",
        ),
        ("{\"certificates\": 5}", "no certificate"),
    ] {
        let file = files.write("target", content);
        let output = run(&[&file]);
        assert_eq!((output.code, output.text.as_str()), (2, ""), "{content}");
        assert_eq!(output.complaint.lines().count(), 1, "{}", output.complaint);
        assert!(
            output.complaint.contains(expected),
            "{content}: {}",
            output.complaint
        );
    }
    for (arguments, expected) in [
        (&["/no/such/file"][..], "/no/such/file: No such file"),
        (&["http://127.0.0.1:1"], "http://127.0.0.1:1/server_info: "),
        (
            &["--ca-file", "/no/such/ca", "https://127.0.0.1:1"],
            "/no/such/ca: No such file",
        ),
        (
            &["--header", "nothing", "http://127.0.0.1:1"],
            "expected \"NAME: VALUE\"",
        ),
    ] {
        let output = run(arguments);
        assert_eq!(
            (output.code, output.text.as_str()),
            (2, ""),
            "{arguments:?}"
        );
        assert!(
            output.complaint.contains(expected),
            "{arguments:?}: {}",
            output.complaint
        );
    }
}

/// Cut or changed anywhere, a dump is read or refused: never a panic.
#[test]
fn half_a_dump_is_no_panic() {
    let (files, cas) = (Files::new(), Hierarchy::new().unwrap());
    let pay = cas.leaf().uri(PAY).issue().unwrap();
    let chain =
        json!({"tls_certificate": {"certificate_chain": {"inline_string": pay.chain_pem()}}});
    let context = json!({"typed_config": {"common_tls_context": {
        "tls_certificate_sds_secret_configs": [{"name": "default"}],
        "validation_context": {"trusted_ca": {"inline_string": cas.trust_bundle().pem()}, "max_verify_depth": 3},
    }}});
    let listener = json!({"name": "in", "filter_chains": [{"transport_socket": context}]});
    let dump = json!({"configs": [
        {"static_secrets": [{"name": "default", "secret": chain}]},
        {"dynamic_listeners": [{"name": "in", "active_state": {"listener": listener}}]},
    ]});
    let text = dump.to_string();
    for end in (1..text.len()).step_by(97) {
        let output = run(&[&files.write("dump.json", &text[..end])]);
        assert_eq!(output.code, 2, "{end}: {}", output.text);
    }
    let words = [
        "\"name\"",
        "\"listener\"",
        "\"typed_config\"",
        "\"inline_string\"",
        "BEGIN",
        "MII",
        "[{",
        "\"default\"",
    ];
    for (word, instead) in words
        .iter()
        .flat_map(|word| ["7", "null", "\"x\"", ""].map(|instead| (word, instead)))
    {
        let output = run(&[&files.write("dump.json", text.replace(word, instead))]);
        assert!(output.code <= 2, "{word} {instead}");
    }
    assert!(Path::new(&files.0.path()).exists());
}
