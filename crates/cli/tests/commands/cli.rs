//! The command line: exit codes, JSON, text, and every form of input.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::project;
use mtls_watch_core::metrics::Label;
use mtls_watch_core::terms::Finding;
use pki::{Ca, Identity, Lifetime};
use pki::{DAY, ExtendedKeyUsage, HOUR, KeyKind, KeyUsage, LeafBuilder, to_pem};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use pki::fixtures::{
    NOW, PAY, PKI, RSA, fingerprint, hex, key_digits, lasting, leaf, url_encode, workload,
    xfcc_element,
};
use pki::handmade::Handmade;

/// The time of the tests, for `--at`.
const AT: &str = "2027-01-15T08:00:00Z";

/// What a command said, and how it ended.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(arguments: &[&str], input: &[u8]) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mtls-watch"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no input may be gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// `inspect` of that input at [`AT`], with more arguments.
pub fn inspect_with(arguments: &[&str], input: impl AsRef<[u8]>) -> Run {
    let arguments = [&["inspect", "--at", AT], arguments, &["-"]].concat();
    run(&arguments, input.as_ref())
}

pub fn inspect(input: impl AsRef<[u8]>) -> Run {
    inspect_with(&[], input)
}

pub fn inspect_json(input: impl AsRef<[u8]>) -> Value {
    let run = inspect_with(&["--format", "json"], input);
    serde_json::from_str(&run.stdout).expect(&run.stderr)
}

pub fn issued(leaf: LeafBuilder) -> Identity {
    leaf.issue().unwrap()
}

fn server_only() -> Identity {
    issued(workload().extended_key_usages(&[ExtendedKeyUsage::ServerAuth]))
}

fn file(content: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_ref()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn the_exit_code_tells_good_from_bad_from_unreadable() {
    for (input, code) in [
        (issued(workload()).chain_pem(), 0),
        // Only a note: Envoy accepts it.
        (issued(workload().extended_key_usages(&[])).leaf_pem(), 0),
        (issued(workload().key_kind(KeyKind::Rsa1024)).leaf_pem(), 1),
        (server_only().leaf_pem(), 1),
        (
            issued(workload().lifetime(lasting(-HOUR, -1))).leaf_pem(),
            1,
        ),
        (issued(workload().lifetime(lasting(1, HOUR))).leaf_pem(), 1),
        ("hello".to_owned(), 2),
        (String::new(), 2),
    ] {
        let run = inspect(&input);
        assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout.is_empty(), code == 2);
        assert_eq!(run.stderr.is_empty(), code != 2);
    }
}

#[test]
fn bad_usage_and_files_that_are_not_there_are_unreadable() {
    for arguments in [
        &[][..],
        &["inspect"],
        &["inspect", "/nonexistent"],
        &["inspect", "--direction", "sideways", "-"],
        &["inspect", "--format", "xml", "-"],
        &["inspect", "--at", "soon", "-"],
        &["inspect", "--config", "/nonexistent", "-"],
        &["check-config", "/nonexistent"],
        &["stats-tags"],
        &["stats-tags", "--format", "otel"],
        &["no-such-command"],
    ] {
        let run = run(arguments, issued(workload()).leaf_pem().as_bytes());
        assert_eq!(run.code, 2, "{arguments:?}");
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn every_form_of_a_chain_is_read() {
    let client = issued(workload());
    let (chain, leaf) = (client.chain_pem(), client.leaf_pem());
    let header = xfcc_element(&client);
    let earlier = xfcc_element(&server_only());
    for (case, input, certificates) in [
        ("PEM", chain.clone(), 3),
        (
            "PEM with line breaks of Windows",
            chain.replace('\n', "\r\n"),
            3,
        ),
        (
            "PEM with text around",
            format!("subject=x, y\n{chain}\n{}", client.key_pem().unwrap()),
            3,
        ),
        ("what s_client shows", format!("0 s:CN = x\n{chain}"), 3),
        ("URL-encoded PEM", url_encode(&chain), 3),
        ("a header's value", header.clone(), 3),
        (
            "a header",
            format!("X-Forwarded-Client-Cert: {header}\r\n"),
            3,
        ),
        (
            "a header with earlier elements",
            format!("{earlier},{header}"),
            3,
        ),
        (
            "a header with a leaf only",
            format!("Hash=00;Cert=\"{}\"", url_encode(&leaf)),
            1,
        ),
    ] {
        let report = inspect_json(input);
        let found = report["certificates"].as_array().unwrap();
        assert_eq!(found.len(), certificates, "{case}");
        assert_eq!(found[0]["identity"], PAY, "{case}");
    }
    let latin_1 = [b"subject=Z\xfcrich\n", chain.as_bytes()].concat();
    for input in [client.der().to_vec(), latin_1] {
        assert_eq!(inspect_json(input)["certificates"][0]["identity"], PAY);
    }
}

#[test]
fn a_file_is_read_as_standard_input_is() {
    let chain = issued(workload()).chain_pem();
    let file = file(&chain);
    let arguments = ["inspect", "--at", AT, "--format", "json", path(&file)];
    let from_file = run(&arguments, b"");
    assert_eq!(from_file.code, 0);
    assert_eq!(
        from_file.stdout,
        inspect_with(&["--format", "json"], &chain).stdout
    );
}

#[test]
fn what_cannot_be_read_is_named_with_its_cause() {
    let client = issued(workload());
    let der = [client.der(), &b"\0\0"[..]].concat();
    let too_large = Handmade::default().of_size(64 * 1024 + 1);
    for (input, cause) in [
        (b"hello".to_vec(), "no certificate"),
        (client.key_pem().unwrap().into_bytes(), "no certificate"),
        (der, "2 bytes after the certificate"),
        (client.der()[..100].to_vec(), "not the DER"),
        (too_large, "65537 bytes"),
        (
            client.leaf_pem().replacen('M', "!", 1).into_bytes(),
            "base64",
        ),
        (b"-----BEGIN CERTIFICATE-----\nMIIB".to_vec(), "END line"),
        (br#"[{"hash":"00","cert":"x"}]"#.to_vec(), "JSON"),
        (b"Hash=00;URI=spiffe://a/b".to_vec(), "no Cert or Chain"),
        (b"Hash=00;Cert=\"%4\"".to_vec(), "percent-encoding"),
    ] {
        let run = inspect(&input);
        assert_eq!(run.code, 2, "{cause}");
        assert!(run.stderr.contains(cause), "{cause}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    }
}

#[test]
fn the_report_has_the_promised_fields_of_the_promised_types() {
    let report = inspect_json(issued(workload()).with_root().chain_pem());
    assert!(report["status"].is_string());
    type Field = (&'static str, fn(&Value) -> bool);
    let promised: [Field; 16] = [
        ("layer", Value::is_string),
        ("identity", Value::is_string),
        ("subject", Value::is_string),
        ("issuer", Value::is_string),
        ("serial", Value::is_string),
        ("not_before", Value::is_i64),
        ("not_after", Value::is_i64),
        ("is_ca", Value::is_boolean),
        ("key_usage", |value| value.is_array() || value.is_null()),
        ("extended_key_usage", |value| {
            value.is_array() || value.is_null()
        }),
        ("public_key", |value| {
            value["algorithm"].is_string() && value["bits"].is_u64()
        }),
        ("signature_algorithm", Value::is_string),
        ("sha256", Value::is_string),
        ("subject_alt_names", Value::is_array),
        ("findings", Value::is_array),
        ("no such field", Value::is_null),
    ];
    for certificate in report["certificates"].as_array().unwrap() {
        for (field, is_right) in promised {
            assert!(is_right(&certificate[field]), "{field}: {certificate}");
        }
        assert_eq!(certificate.as_object().unwrap().len(), promised.len() - 1);
    }
}

#[test]
fn the_report_says_what_is_in_the_certificates() {
    let client = leaf()
        .common_name("pay")
        .organization("Shop")
        .dns("pay.test")
        .uri(PAY);
    let client = issued(client.key_usages(&[])).with_root();
    let report = inspect_json(client.chain_pem());
    let certificates = report["certificates"].as_array().unwrap();
    let name = |ca: &Ca, name: &str| format!("{name}:{}", key_digits(ca));
    let [issuing, intermediate, root] = [
        name(&PKI.issuing, "Issuing CA"),
        name(&PKI.intermediate, "Intermediate CA"),
        name(&PKI.root, "Root CA"),
    ];
    for (certificate, (layer, identity, issuer)) in certificates.iter().zip([
        ("workload", PAY, &issuing),
        ("issuing_ca", &issuing, &intermediate),
        ("intermediate_ca", &intermediate, &root),
        ("root_ca", &root, &root),
    ]) {
        assert_eq!(certificate["layer"], layer);
        assert_eq!(certificate["identity"], identity);
        assert_eq!(certificate["issuer"], *issuer);
        assert_eq!(certificate["is_ca"], layer != "workload");
    }
    let (leaf, ca) = (&certificates[0], &certificates[1]);
    assert_eq!(leaf["subject"], "CN=pay, O=Shop");
    assert_eq!(leaf["not_before"], NOW - HOUR);
    assert_eq!(leaf["not_after"], NOW + 23 * HOUR);
    assert_eq!(leaf["key_usage"], Value::Null);
    assert_eq!(
        leaf["extended_key_usage"],
        json!(["serverAuth", "clientAuth"])
    );
    assert_eq!(leaf["public_key"], json!({"algorithm": "EC", "bits": 256}));
    assert_eq!(leaf["sha256"], fingerprint(&client));
    assert_eq!(
        leaf["subject_alt_names"],
        json!(["DNS:pay.test", format!("URI:{PAY}")])
    );
    assert_eq!(ca["key_usage"], json!(["keyCertSign", "cRLSign"]));
    assert_eq!(ca["extended_key_usage"], Value::Null);
}

#[test]
fn the_report_names_keys_and_signatures() {
    let ca = Ca::root("RSA CA").key(&RSA).issue().unwrap();
    for (leaf, algorithm, bits) in [
        (workload().key_kind(KeyKind::P384), "EC", 384),
        (workload().key_kind(KeyKind::Ed25519), "Ed25519", 256),
        (workload().key(&RSA), "RSA", 2048),
        (ca.leaf().sha1_signature(), "EC", 256),
    ] {
        let report = inspect_json(issued(leaf).der());
        let key = &report["certificates"][0]["public_key"];
        assert_eq!(*key, json!({"algorithm": algorithm, "bits": bits}));
    }
    let report = inspect_json(issued(ca.leaf().sha1_signature()).der());
    let signature = report["certificates"][0]["signature_algorithm"].to_string();
    assert!(
        signature.to_ascii_lowercase().contains("sha1"),
        "{signature}"
    );
}

#[test]
fn the_serial_is_lower_case_hex() {
    let handmade = Handmade {
        serial: vec![0, 0xab, 0xcd],
        ..Handmade::default()
    };
    let report = inspect_json(handmade.der());
    assert_eq!(report["certificates"][0]["serial"], hex(&[0xab, 0xcd]));
}

#[test]
fn the_status_is_the_worst_and_each_finding_is_at_its_certificate() {
    let weak = Ca::root("Weak CA").key_kind(KeyKind::Rsa1024);
    let weak = weak.lifetime(lasting(-DAY, 1000 * DAY)).issue().unwrap();
    let leaf = weak
        .leaf()
        .uri("spiffe://Bad/x")
        .lifetime(lasting(-HOUR, 23 * HOUR));
    let report = inspect_json(issued(leaf).with_root().chain_pem());
    assert_eq!(report["status"], "critical");
    assert_eq!(
        report["certificates"][0]["findings"],
        json!(["spiffe_id_invalid"])
    );
    assert_eq!(report["certificates"][1]["findings"], json!(["weak_key"]));
}

#[test]
fn a_ca_that_cannot_be_read_is_a_warning_and_a_leaf_the_end() {
    let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let leaf = issued(workload()).leaf_pem();
    let run = inspect_with(&["--format", "json"], [&leaf, broken].concat());
    assert_eq!(run.code, 1);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["status"], "warning");
    assert_eq!(inspect([broken, &leaf].concat()).code, 2);
}

#[test]
fn the_time_of_judgement_can_be_given() {
    let leaf = issued(workload().lifetime(lasting(0, 24 * HOUR))).leaf_pem();
    for (at, status) in [
        ("2027-01-15T07:59:59Z", "not_yet_valid"),
        ("2027-01-15T08:00:00Z", "ok"),
        ("2027-01-16T02:00:00Z", "ok"),
        ("2027-01-16T02:00:01Z", "warning"),
        ("2027-01-16T05:00:01Z", "critical"),
        ("2027-01-16T08:00:00Z", "critical"),
        ("2027-01-16T08:00:01Z", "expired"),
        ("2027-01-16T10:00:01+02:00", "expired"),
        ("9999-12-31T23:59:59Z", "expired"),
        ("1950-01-01T00:00:00Z", "not_yet_valid"),
    ] {
        let run = run(&["inspect", "--at", at, "-"], leaf.as_bytes());
        let expected = format!("status: {status}");
        assert_eq!(
            run.stdout.lines().next(),
            Some(&*expected),
            "{at}{}",
            run.stderr
        );
    }
}

#[test]
fn without_a_time_it_is_now() {
    for (lifetime, status) in [
        (Lifetime::from_now(-100 * DAY, 100 * DAY), "ok"),
        (Lifetime::from_now(-2 * DAY, -DAY), "expired"),
        (Lifetime::from_now(DAY, 2 * DAY), "not_yet_valid"),
    ] {
        let leaf = issued(workload().lifetime(lifetime)).leaf_pem();
        let run = run(&["inspect", "-"], leaf.as_bytes());
        assert!(
            run.stdout.starts_with(&format!("status: {status}\n")),
            "{}",
            run.stdout
        );
    }
}

#[test]
fn the_direction_says_which_usages_are_needed() {
    let usages = |usage| leaf().dns("a.test").extended_key_usages(&[usage]);
    for (usage, direction, code) in [
        (ExtendedKeyUsage::ClientAuth, "inbound", 0),
        (ExtendedKeyUsage::ClientAuth, "outbound", 1),
        (ExtendedKeyUsage::ServerAuth, "inbound", 1),
        (ExtendedKeyUsage::ServerAuth, "outbound", 0),
    ] {
        let pem = issued(usages(usage.clone())).leaf_pem();
        let run = inspect_with(&["--direction", direction], &pem);
        assert_eq!(run.code, code, "{usage:?} {direction}");
        if direction == "inbound" {
            assert_eq!(inspect(&pem).code, code, "the default is inbound");
        }
    }
}

#[test]
fn thresholds_come_from_a_configuration_where_one_is_given() {
    let leaf = issued(workload()).leaf_pem();
    assert_eq!(inspect(&leaf).code, 0);
    let strict = file(json!({"thresholds": {"workload": {"warning": "24h"}}}).to_string());
    // The default critical bound of seven days does not go with a warning of one.
    let run = inspect_with(&["--config", path(&strict)], &leaf);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("thresholds.workload.warning"),
        "{}",
        run.stderr
    );

    let both = json!({"thresholds": {"workload": {"warning": "24h", "critical": "1h"}}});
    let both = file(both.to_string());
    let run = inspect_with(&["--config", path(&both)], &leaf);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("expires_warning"), "{}", run.stdout);
}

#[test]
fn the_text_says_it_all_to_a_person() {
    let run = inspect(server_only().with_root().chain_pem());
    for part in [
        "status: critical",
        "workload",
        "issuing_ca",
        "intermediate_ca",
        "root_ca",
        &format!("URI:{PAY}"),
        "2027-01-16T07:00:00Z",
        "expires in 23h",
        "serverAuth",
        "client_auth_missing: add clientAuth to extendedKeyUsage",
    ] {
        assert!(run.stdout.contains(part), "no {part}:\n{}", run.stdout);
    }
    for (seconds, words) in [
        (DAY, "(expires in 1d)"),
        (25 * HOUR + 90, "(expires in 1d 1h)"),
        (59, "(expires in 59s)"),
        (0, "(expires in 0s)"),
        (-90, "(expired 1m 30s ago)"),
    ] {
        let leaf = workload().lifetime(lasting(-DAY, seconds));
        let text = inspect(issued(leaf).leaf_pem()).stdout;
        assert!(text.contains(words), "no {words}:\n{text}");
    }
}

#[test]
fn a_name_in_a_certificate_cannot_move_the_cursor() {
    let client = issued(workload().common_name("a\u{1b}[2Jb\r\nstatus: ok"));
    let text = inspect(client.leaf_pem()).stdout;
    assert!(
        !text.replace('\n', "").contains(char::is_control),
        "{text:?}"
    );
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("status"))
            .count(),
        1
    );
}

#[test]
fn a_configuration_is_accepted_or_every_error_is_told_in_the_words_of_envoy_s_log() {
    let accepted = file("{}");
    let run_on = |file: &NamedTempFile| run(&["check-config", path(file)], b"");
    assert_eq!(run_on(&accepted).code, 0);
    let refused = file(
        json!({"thresholds": {"issuing_ca": {"warning": ["30d", "16 %"]}}, "treshold": 1})
            .to_string(),
    );
    let run = run_on(&refused);
    assert_eq!(run.code, 1);
    let lines: Vec<&str> = run.stdout.lines().collect();
    let starts = [
        "mtls-watch: configuration error: treshold: 1: ",
        r#"mtls-watch: configuration error: thresholds.issuing_ca.warning[1]: "16 %": "#,
    ];
    assert_eq!(lines.len(), starts.len(), "{}", run.stdout);
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(self::run(&["check-config", "-"], b"").code, 0);
    assert_eq!(self::run(&["check-config", "-"], b"{").code, 1);
}

#[test]
fn a_configuration_can_name_every_finding() {
    let deny =
        json!({"deny": Finding::ALL.iter().map(|finding| finding.as_str()).collect::<Vec<_>>()});
    let run = run(&["check-config", "-"], deny.to_string().as_bytes());
    assert_eq!(run.code, 0, "{}", run.stdout);
}

/// Name and regex of each tag of a bootstrap.
fn tags(bootstrap: &str) -> BTreeSet<(String, String)> {
    let bootstrap: serde_yaml_ng::Value = serde_yaml_ng::from_str(bootstrap).unwrap();
    let tags = bootstrap["stats_config"]["stats_tags"]
        .as_sequence()
        .unwrap();
    let text = |tag: &serde_yaml_ng::Value, key| tag[key].as_str().unwrap().to_owned();
    let tag = |tag| (text(tag, "tag_name"), text(tag, "regex"));
    tags.iter().map(tag).collect()
}

pub fn stats_tags(format: &str) -> String {
    let run = run(&["stats-tags", "--format", format], b"");
    assert_eq!(run.code, 0);
    run.stdout
}

#[test]
fn envoy_s_tags_are_yaml_with_every_label() {
    let expected = Label::ALL.iter().copied().map(|label| {
        let key = label.as_str();
        (key.to_owned(), format!(r"({key}=\.=(.*?);\.;)"))
    });
    assert_eq!(tags(&stats_tags("envoy")), BTreeSet::from_iter(expected));
}

#[test]
fn istio_s_tags_are_yaml_with_every_label() {
    let config: serde_yaml_ng::Value = serde_yaml_ng::from_str(&stats_tags("istio")).unwrap();
    let tags = config["meshConfig"]["defaultConfig"]["extraStatTags"].as_sequence();
    let tags: BTreeSet<_> = tags
        .unwrap()
        .iter()
        .map(|tag| tag.as_str().unwrap())
        .collect();
    assert_eq!(
        tags,
        BTreeSet::from_iter(Label::ALL.iter().copied().map(Label::as_str))
    );
}

#[test]
fn the_samples_have_the_tags_that_the_command_prints() {
    let expected = tags(&stats_tags("envoy"));
    let folder = fs::read_dir(project("envoy-config")).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    let mut compared = 0;
    for path in paths.filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    }) {
        let text = fs::read_to_string(&path).unwrap();
        // A secret's file is no bootstrap.
        if text.contains("\nadmin:") {
            assert_eq!(tags(&text), expected, "{}", path.display());
            compared += 1;
        }
    }
    assert!(compared >= 7, "{compared}");
}

#[test]
fn a_refused_handshake_is_explained() {
    let reason = "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:\
                  verify cert failed: X509_verify_cert: certificate verification error at depth 1: \
                  certificate has expired:TLS_error_end";
    let run = run(&["explain", reason], b"");
    assert_eq!(run.code, 0, "{}", run.stderr);
    for part in ["expired", "issuing_ca"] {
        assert!(run.stdout.contains(part), "{}", run.stdout);
    }
}

#[test]
fn help_and_version_are_there() {
    let help = run(&["--help"], b"");
    assert_eq!(help.code, 0);
    for command in ["inspect", "explain", "stats-tags", "check-config"] {
        assert!(help.stdout.contains(command), "{}", help.stdout);
    }
    let version = run(&["--version"], b"");
    assert!(
        version.stdout.contains(mtls_watch_core::VERSION),
        "{}",
        version.stdout
    );
}

#[test]
fn shells_can_complete_and_man_can_show_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell], b"");
        assert_eq!(script.code, 0);
        for word in ["rotation-status", "trusted"] {
            assert!(script.stdout.contains(word), "{shell}: no {word}");
        }
    }
    assert_eq!(run(&["completions", "tcsh"], b"").code, 2);
    let page = run(&["man"], b"");
    assert_eq!(page.code, 0);
    assert!(
        page.stdout.starts_with(".ie") && page.stdout.contains("inspect"),
        "{}",
        page.stdout
    );
    let page = run(&["man", "inspect"], b"");
    assert!(page.stdout.contains("trusted"), "{}", page.stdout);
    assert_eq!(run(&["man", "no-such"], b"").code, 2);
}

#[test]
fn a_trust_bundle_is_read_like_a_chain() {
    let bundle = to_pem([PKI.root.der(), PKI.issuing.der()]);
    let report = inspect_json(bundle);
    assert_eq!(report["certificates"].as_array().unwrap().len(), 2);
}

/// Envoy does not negotiate every key in every role, and no finding says so.
#[test]
fn a_key_that_envoy_refuses_in_a_role_is_not_ok() {
    let note = |role: &str| format!("note: Envoy refuses this certificate of a {role}: ");
    for (kind, as_client, as_server) in [
        (KeyKind::P256, true, true),
        (KeyKind::P384, true, false),
        (KeyKind::Ed25519, false, false),
    ] {
        let leaf = issued(workload().key_kind(kind));
        for (direction, is_ok) in [("inbound", as_client), ("outbound", as_server)] {
            let run = inspect_with(&["--direction", direction], leaf.der());
            let text = &run.stdout;
            assert_eq!(run.code == 0, is_ok, "{kind:?} {direction}: {text}");
            let status = if is_ok {
                "status: ok"
            } else {
                "status: critical"
            };
            assert!(text.starts_with(status), "{text}");
            // A workload is both, and is told of the other role.
            assert_eq!(text.contains(&note("client")), !as_client, "{text}");
            assert_eq!(text.contains(&note("server")), !as_server, "{text}");
        }
    }
    let for_clients = workload()
        .dns("pay")
        .extended_key_usages(&[ExtendedKeyUsage::ClientAuth]);
    let run = inspect(issued(for_clients.key_kind(KeyKind::P384)).der());
    assert!(!run.stdout.contains("note:"), "{}", run.stdout);
}

/// As the module does: who has signed a certificate is decided in one place.
#[test]
fn of_several_issuers_the_one_that_envoy_would_accept_counts() {
    let ca = |days| {
        let ca = PKI.intermediate.subordinate("Issuing CA");
        ca.lifetime(lasting(-DAY, days * DAY))
    };
    let old = ca(5).issue().unwrap();
    let unfit = ca(90).key(old.key()).key_usages(&[KeyUsage::CrlSign]);
    let unfit = unfit.issue().unwrap();
    let leaf = old.leaf().dns("pay.test").lifetime(lasting(-HOUR, 9 * DAY));
    let chain = [issued(leaf).leaf_pem(), old.pem(), unfit.pem()].concat();
    let report = inspect_json(chain);
    let findings = report["certificates"][0]["findings"].as_array().unwrap();
    assert!(findings.contains(&json!("outlives_issuer")), "{report}");
}
