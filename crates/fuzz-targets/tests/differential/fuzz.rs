//! The fuzzer's targets with its seeds, and with everything that it ever found. `make fuzz` begins
//! with the same seeds: the certificates among them are made here, none is kept.

use std::path::{Path, PathBuf};
use std::{env, fs};

use fuzz_targets::TARGETS;

use pki::fixtures::{generated, url_encode, workload, xfcc_element};

/// Envoy's words, each for another cause.
const FAILURES: &[&str] = &[
    "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: \
     X509_verify_cert: certificate verification error at depth 0: unsupported certificate purpose:TLS_error_end",
    "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end",
    "TLS_error:|268435758:SSL routines:OPENSSL_internal:KEY_USAGE_BIT_INCORRECT:TLS_error_end",
    "TLS_error:|268436526:SSL routines:OPENSSL_internal:TLSV1_ALERT_PROTOCOL_VERSION:TLS_error_end",
    "verify cert failed: verify SAN list",
];

/// Every key, with its default.
const CONFIGURATION: &str = include_str!("../../../core/tests/core/reference.json");

/// The seeds of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let ders: Vec<Vec<u8>> = generated().into_iter().map(|(_, der)| der).collect();
    let client = workload().issue().unwrap();
    let with_length = |der: &[u8]| {
        let length = u16::try_from(der.len()).unwrap().to_be_bytes();
        [&length[..], der].concat()
    };
    let chain = || {
        client
            .chain()
            .iter()
            .flat_map(|der| with_length(der))
            .collect()
    };
    match target {
        "differential" => ders,
        "chain" => vec![chain(), with_length(&ders[0])],
        "pem" => vec![
            client.chain_pem().into_bytes(),
            url_encode(&client.leaf_pem()).into_bytes(),
        ],
        "xfcc" => {
            let ours = xfcc_element(&client);
            let forged = format!("By=a;Subject=\"CN=\\\"x,Cert=\";Cert=\"y\",{ours}");
            vec![ours.into_bytes(), forged.into_bytes()]
        }
        "configuration" => vec![CONFIGURATION.into(), b"{}".into()],
        "failure_text" => FAILURES.iter().map(|text| (*text).into()).collect(),
        "admin_reply" => [secrets_reply(&client.chain_pem()), CERTS_REPLY.into()]
            .map(String::into_bytes)
            .into(),
        "label" => vec![
            b"spiffe://cluster.local/ns/shop/sa/pay".into(),
            "é;.=".into(),
        ],
        other => panic!("no seeds for the target {other}"),
    }
}

/// A reply to the question for this proxy's secrets, with this chain.
fn secrets_reply(pem: &str) -> String {
    serde_json::json!({"configs": [{
        "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump.DynamicSecret",
        "name": "default",
        "secret": {
            "name": "default",
            "tls_certificate": {"certificate_chain": {"inline_string": pem}},
        },
    }, {
        "name": "ROOTCA",
        "secret": {
            "name": "ROOTCA",
            "validation_context": {"trusted_ca": {"inline_string": pem}},
        },
    }]})
    .to_string()
}

/// A reply to the question for the certificates in use.
const CERTS_REPLY: &str = r#"{"certificates": [{
    "ca_cert": [{"path": "ca.crt", "serial_number": "01", "subject_alt_names": [],
        "valid_from": "2026-01-01T00:00:00Z", "expiration_time": "2027-01-01T00:00:00Z"}],
    "cert_chain": [{"path": "tls.crt", "serial_number": "02",
        "subject_alt_names": [{"uri": "spiffe://a/b"}, {"dns": "a.test"}],
        "valid_from": "2026-01-01T00:00:00Z", "expiration_time": "2027-01-01T00:00:00Z"}]
}]}"#;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// What the fuzzer found in a target, by the names of the files.
fn regressions(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(directory) = fs::read_dir(fuzz().join("regressions").join(target)) else {
        return Vec::new();
    };
    let paths = directory.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn seeds_hold() {
    for (name, target) in TARGETS {
        for (number, seed) in seeds(name).iter().enumerate() {
            target(seed);
            // Cut anywhere, it still does.
            for end in (0..seed.len()).step_by(17) {
                target(&seed[..end]);
            }
            if let Some(directory) = env::var_os("FUZZ_CORPUS") {
                let directory = Path::new(&directory).join(name);
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join(format!("seed-{number}")), seed).unwrap();
            }
        }
    }
}

#[test]
fn what_the_fuzzer_found_holds() {
    for (name, target) in TARGETS {
        for (file, input) in regressions(name) {
            println!("{file}");
            target(&input);
        }
    }
}

/// A seed that its target turns down at once teaches the fuzzer nothing.
#[test]
fn seeds_are_what_their_targets_read() {
    use mtls_watch_core::own::admin;
    use mtls_watch_core::terms::Direction;
    use mtls_watch_core::{config, handshake};
    let [secrets, certs] = seeds("admin_reply").try_into().unwrap();
    assert_eq!(admin::secrets(&secrets).unwrap().len(), 2);
    assert_eq!(admin::certificates(&certs, &[]).unwrap().len(), 2);
    for text in FAILURES {
        assert!(
            handshake::explain(text, Direction::Inbound).is_some(),
            "{text}"
        );
    }
    config::Config::parse(CONFIGURATION.as_bytes()).unwrap();
}

/// Each target has a binary of its own, which libFuzzer needs.
#[test]
fn every_target_is_fuzzed() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
        let source = fuzz().join(format!("fuzz_targets/{name}.rs"));
        let source = fs::read_to_string(&source).unwrap();
        assert!(
            source.contains(&format!("fuzz_targets::{name}(input)")),
            "{name}"
        );
    }
}
