//! `inspect` reads what people have in hand, or names it with the command that converts it.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pki::fixtures::{PAY, PKI, fingerprint, leaf, url_encode, workload, xfcc_element};
use pki::{Ca, Identity, to_pem};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{Run, inspect, inspect_json, inspect_with, issued, run};

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64.encode(bytes)
}

/// The lines of a PEM without the marks, as one.
fn body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

fn utf_16(text: &str, mark: &[u8], bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    [
        mark,
        &text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>(),
    ]
    .concat()
}

fn joined(ders: &[impl AsRef<[u8]>]) -> Vec<u8> {
    ders.iter().flat_map(|der| der.as_ref().to_vec()).collect()
}

fn identities(report: &Value) -> Vec<String> {
    let certificates = report["certificates"].as_array().unwrap().iter();
    certificates
        .map(|it| it["identity"].as_str().unwrap().to_owned())
        .collect()
}

fn openssl(arguments: &[&str], directory: &Path) {
    let program = std::env::var("OPENSSL").unwrap_or("openssl".to_owned());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A directory with a chain, its leaf, its key and its root.
fn files(client: &Identity) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("chain.pem", client.chain_pem()),
        ("leaf.pem", client.leaf_pem()),
        ("key.pem", client.key_pem().unwrap()),
        ("root.pem", PKI.root.pem()),
    ] {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

#[test]
fn every_disguise_of_a_chain_is_read() {
    let client = issued(workload());
    let chain = client.chain_pem();
    let ders = client.chain();
    let bodies: Vec<String> = ders.iter().map(base64).collect();
    let plus_encoded = url_encode(&chain).replace("%20", "+");
    let der_with_line_break = [client.der(), &b"\n"[..]].concat();
    for (case, input, certificates) in [
        (
            "UTF-16, little-endian",
            utf_16(&chain, &[0xff, 0xfe], u16::to_le_bytes),
            3,
        ),
        (
            "UTF-16, big-endian",
            utf_16(&chain, &[0xfe, 0xff], u16::to_be_bytes),
            3,
        ),
        (
            "UTF-16 without a mark",
            utf_16(&chain, &[], u16::to_le_bytes),
            3,
        ),
        (
            "UTF-8 with a mark",
            [b"\xef\xbb\xbf", chain.as_bytes()].concat(),
            3,
        ),
        (
            "one line with \\n",
            chain.replace('\n', "\\n").into_bytes(),
            3,
        ),
        ("a string of JSON", json!(chain).to_string().into_bytes(), 3),
        ("+-encoded", plus_encoded.into_bytes(), 3),
        ("base64 of PEM", base64(&chain).into_bytes(), 3),
        ("base64 of DER", bodies[0].clone().into_bytes(), 1),
        (
            "base64 of DER in lines",
            body(&client.leaf_pem()).into_bytes(),
            1,
        ),
        ("Client-Cert", format!(":{}:", bodies[0]).into_bytes(), 1),
        (
            "Client-Cert with its name",
            format!("Client-Cert: :{}:", bodies[0]).into_bytes(),
            1,
        ),
        (
            "Client-Cert-Chain",
            format!("client-cert-chain: :{}:, :{}:", bodies[0], bodies[1]).into_bytes(),
            2,
        ),
        ("Traefik's", url_encode(&bodies.join(",")).into_bytes(), 3),
        ("a DER and a line break", der_with_line_break, 1),
        ("DERs one after the other", joined(&ders), 3),
        (
            "a DER whose line break is of Windows",
            [client.der(), &b"\r\n"[..]].concat(),
            1,
        ),
        (
            "TRUSTED CERTIFICATE",
            client
                .leaf_pem()
                .replace(" CERTIFICATE", " TRUSTED CERTIFICATE")
                .into_bytes(),
            1,
        ),
    ] {
        let run = inspect_with(&["--format", "json"], &input);
        assert_eq!(run.code, 0, "{case}: {}", run.stderr);
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let found = identities(&report);
        assert_eq!(found.len(), certificates, "{case}");
        assert_eq!(found[0], PAY, "{case}");
        assert_eq!(report["status"], "ok", "{case}");
    }
}

#[test]
fn what_openssl_packs_is_read() {
    let client = issued(workload());
    let directory = files(&client);
    let directory = directory.path();
    openssl(
        &[
            "crl2pkcs7",
            "-nocrl",
            "-certfile",
            "chain.pem",
            "-out",
            "pem.p7b",
        ],
        directory,
    );
    openssl(
        &[
            "crl2pkcs7",
            "-nocrl",
            "-certfile",
            "chain.pem",
            "-outform",
            "DER",
            "-out",
            "der.p7b",
        ],
        directory,
    );
    openssl(
        &[
            "x509",
            "-in",
            "leaf.pem",
            "-addtrust",
            "clientAuth",
            "-trustout",
            "-out",
            "trusted.pem",
        ],
        directory,
    );
    let export = ["pkcs12", "-export", "-in", "chain.pem", "-inkey", "key.pem"];
    let legacy = [
        "-keypbe",
        "PBE-SHA1-3DES",
        "-certpbe",
        "PBE-SHA1-3DES",
        "-macalg",
        "sha1",
    ];
    openssl(
        &[&export[..], &["-passout", "pass:", "-out", "open.p12"]].concat(),
        directory,
    );
    openssl(
        &[
            &export[..],
            &["-passout", "pass:s3cret é", "-out", "closed.p12"],
        ]
        .concat(),
        directory,
    );
    openssl(
        &[
            &export[..],
            &legacy,
            &["-passout", "pass:s3cret é", "-out", "3des.p12"],
        ]
        .concat(),
        directory,
    );
    openssl(
        &[
            &export[..],
            &legacy,
            &["-passout", "pass:", "-out", "open-3des.p12"],
        ]
        .concat(),
        directory,
    );
    let no_keys = [
        "pkcs12",
        "-export",
        "-nokeys",
        "-in",
        "chain.pem",
        "-passout",
        "pass:",
    ];
    openssl(
        &[&no_keys[..], &["-out", "no-keys.p12"]].concat(),
        directory,
    );
    let plain = ["-certpbe", "NONE", "-nomac"];
    openssl(
        &[&no_keys[..], &plain, &["-out", "plain.p12"]].concat(),
        directory,
    );
    fs::write(directory.join("password"), "s3cret é\n").unwrap();
    for (file, certificates) in [
        ("pem.p7b", 3),
        ("der.p7b", 3),
        ("trusted.pem", 1),
        ("open.p12", 3),
        ("closed.p12", 3),
        ("3des.p12", 3),
        ("open-3des.p12", 3),
        ("no-keys.p12", 3),
        ("plain.p12", 3),
    ] {
        let path = directory.join(file);
        let password = directory.join("password");
        let mut arguments = vec![
            "inspect",
            "--at",
            "2027-01-15T08:00:00Z",
            "--format",
            "json",
        ];
        if matches!(file, "closed.p12" | "3des.p12") {
            let without = run(&["inspect", path.to_str().unwrap()], b"");
            assert_eq!(without.code, 2);
            assert!(
                without.stderr.contains("--password-file"),
                "{}",
                without.stderr
            );
            arguments.extend(["--password-file", password.to_str().unwrap()]);
        }
        arguments.push(path.to_str().unwrap());
        let output = run(&arguments, b"");
        let report: Value = serde_json::from_str(&output.stdout).expect(&output.stderr);
        let found = identities(&report);
        assert_eq!(found.len(), certificates, "{file}");
        assert!(found.contains(&PAY.to_owned()), "{file}: {found:?}");
    }
}

/// A report of several chains and bundles: where each certificate stands, and its layer.
fn places(report: &Value) -> Vec<(String, String)> {
    let certificates = report["certificates"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    certificates
        .map(|it| (text(&it["source"]), text(&it["layer"])))
        .collect()
}

#[test]
fn secrets_of_kubernetes_are_read() {
    let client = issued(workload());
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pay-tls", "namespace": "shop", "annotations": {"note": client.leaf_pem()}},
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": base64(client.chain_pem()),
            "tls.key": base64(client.key_pem().unwrap()),
            "ca.crt": base64(PKI.root.pem()),
        },
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [secret]});
    let yaml = serde_yaml_ng::to_string(&secret).unwrap();
    let expected = [
        ("Secret shop/pay-tls ca.crt", "root_ca"),
        ("Secret shop/pay-tls tls.crt", "workload"),
        ("Secret shop/pay-tls tls.crt", "issuing_ca"),
        ("Secret shop/pay-tls tls.crt", "intermediate_ca"),
    ]
    .map(|(place, layer)| (place.to_owned(), layer.to_owned()));
    for input in [
        secret.to_string(),
        list.to_string(),
        yaml.clone(),
        format!("---\n{yaml}---\n"),
    ] {
        let report = inspect_json(&input);
        assert_eq!(places(&report), expected, "{input}");
        assert_eq!(report["status"], "ok");
    }
    let config_map = json!({
        "kind": "ConfigMap",
        "metadata": {"name": "istio-ca-root-cert"},
        "data": {"root-cert.pem": PKI.root.pem()},
    });
    for input in [
        config_map.to_string(),
        serde_yaml_ng::to_string(&config_map).unwrap(),
    ] {
        let report = inspect_json(&input);
        assert_eq!(report["certificates"][0]["layer"], "root_ca", "{report}");
    }
    let empty = json!({"kind": "Secret", "metadata": {"name": "x"}, "data": {"tls.key": base64("x".repeat(200))}});
    let run = inspect(empty.to_string());
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("the Secret has no certificate"),
        "{}",
        run.stderr
    );
}

#[test]
fn secrets_of_envoy_are_read() {
    let client = issued(workload());
    let chain = |key: [&str; 4], value: Value| json!({key[0]: {key[1]: {key[2]: value}, key[3]: {key[2]: "[redacted]"}}});
    let istioctl = json!({"dynamicActiveSecrets": [
        {"name": "default", "secret": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": "default",
            "tlsCertificate": {"certificateChain": {"inlineBytes": base64(client.chain_pem())},
                               "privateKey": {"inlineBytes": "W3JlZGFjdGVkXQ=="}}}},
        {"name": "ROOTCA", "secret": {"name": "ROOTCA",
            "validationContext": {"trustedCa": {"inlineBytes": base64(PKI.root.pem())}}}},
    ]});
    let dump = json!({"configs": [{
        "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        "dynamic_active_secrets": [
            {"name": "default", "secret": chain(["tls_certificate", "certificate_chain", "inline_string", "private_key"], json!(client.chain_pem()))},
            {"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": {"inline_string": PKI.root.pem()}}}},
        ],
    }]});
    for input in [istioctl, dump] {
        let report = inspect_json(input.to_string());
        let found = places(&report);
        assert_eq!(found.len(), 4, "{report}");
        assert!(
            found
                .iter()
                .all(|(place, _)| place.starts_with("secret default ")
                    || place.starts_with("secret ROOTCA ")),
            "{found:?}"
        );
        let layers: Vec<&str> = found.iter().map(|(_, layer)| &**layer).collect();
        assert!(
            layers.contains(&"workload") && layers.contains(&"root_ca"),
            "{layers:?}"
        );
        assert_eq!(report["status"], "ok");
    }
    let dates = json!({"certificates": [{"ca_cert": [], "cert_chain": [{"path": "x", "serial_number": "1"}]}]});
    let run = inspect(dates.to_string());
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("/config_dump"), "{}", run.stderr);
}

#[test]
fn dumps_of_ztunnel_and_bundles_of_spire_are_read() {
    let client = issued(workload());
    let pems = client.chain();
    let pems: Vec<Value> = pems
        .iter()
        .map(|der| json!({"pem": base64(to_pem([der]))}))
        .collect();
    let ztunnel = json!({"certificates": [{
        "identity": PAY, "state": "Available", "certChain": pems,
        "rootCerts": [{"pem": base64(PKI.root.pem())}],
    }]});
    let report = inspect_json(ztunnel.to_string());
    let place = |key: &str| format!("ztunnel {PAY} {key}");
    let expected = [
        (place("certChain"), "workload"),
        (place("certChain"), "issuing_ca"),
        (place("certChain"), "intermediate_ca"),
        (place("rootCerts"), "root_ca"),
    ];
    assert_eq!(
        places(&report),
        expected.map(|(place, layer)| (place, layer.to_owned()))
    );

    let other = Ca::root("Other").issue().unwrap();
    let key = |ca: &Ca| json!({"kty": "EC", "use": "x509-svid", "x5c": [base64(ca.der())]});
    let jwks = json!({"keys": [key(&PKI.root), key(&other)], "spiffe_sequence": 1});
    let report = inspect_json(jwks.to_string());
    let layers: Vec<_> = report["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["layer"].clone())
        .collect();
    assert_eq!(layers, ["root_ca", "root_ca"]);

    let svids = json!({"svids": [{"spiffe_id": PAY, "x509_svid": base64(joined(&client.chain())),
        "x509_svid_key": base64(client.key().pkcs8_der().unwrap()), "bundle": base64(PKI.root.der())}]});
    let report = inspect_json(svids.to_string());
    assert_eq!(
        report["certificates"].as_array().unwrap().len(),
        4,
        "{report}"
    );
}

#[test]
fn what_has_no_certificate_is_named() {
    let client = issued(workload());
    let directory = files(&client);
    let path = directory.path();
    openssl(
        &[
            "req", "-new", "-key", "key.pem", "-subj", "/CN=x", "-out", "csr.pem",
        ],
        path,
    );
    openssl(
        &[
            "req", "-in", "csr.pem", "-outform", "DER", "-out", "csr.der",
        ],
        path,
    );
    openssl(
        &[
            "pkey", "-in", "key.pem", "-outform", "DER", "-out", "key.der",
        ],
        path,
    );
    openssl(
        &["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"],
        path,
    );
    let file = |name: &str| fs::read(path.join(name)).unwrap();
    let list = PKI
        .issuing
        .revocation_list_for(pki::fixtures::lasting(0, 1), &[])
        .unwrap();
    for (input, cause) in [
        (file("key.pem"), "only a private key"),
        (file("key.der"), "only a private key"),
        (file("csr.pem"), "certificate signing request"),
        (file("csr.der"), "certificate signing request"),
        (file("public.pem"), "public key"),
        (list.into_bytes(), "revocation list"),
        (b"\xfe\xed\xfe\xed\0\0\0\x02".to_vec(), "keytool"),
        (
            [
                &[0x30, 0x80, 6, 9][..],
                b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02",
                &[0xa0, 0x80],
            ]
            .concat(),
            "openssl pkcs7",
        ),
        (b"{\"a\": [1, 2".to_vec(), "JSON"),
        (b"{\"a\": [1, 2]}".to_vec(), "the JSON has no certificate"),
        (b" \n".to_vec(), "empty"),
    ] {
        let run = inspect(&input);
        assert_eq!(run.code, 2, "{cause}: {}", run.stdout);
        assert!(run.stderr.contains(cause), "{cause}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1);
    }
}

#[test]
fn several_files_are_inspected_and_each_is_named() {
    let client = issued(workload());
    let weak = issued(workload().uri("spiffe://d/other"));
    let directory = files(&client);
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("weak.pem"), weak.leaf_pem()).unwrap();
    let at = ["inspect", "--at", "2027-01-15T08:00:00Z"];
    let (chain, other, absent) = (path("chain.pem"), path("weak.pem"), path("absent"));
    let both = run(
        &[&at[..], &["--format", "json", &chain, &other]].concat(),
        b"",
    );
    assert_eq!(both.code, 1);
    let report: Value = serde_json::from_str(&both.stdout).unwrap();
    assert_eq!(report["status"], "critical");
    assert_eq!(
        report["sources"][0],
        json!({"source": chain, "status": "ok"})
    );
    assert_eq!(
        report["sources"][1],
        json!({"source": other, "status": "critical"})
    );
    assert_eq!(places(&report).len(), 4);
    // One that cannot be read hides none of the others.
    let text = run(&[&at[..], &[&chain, &absent, &other]].concat(), b"");
    assert_eq!(text.code, 2);
    assert!(text.stderr.contains("absent"), "{}", text.stderr);
    assert!(
        text.stdout.contains(&format!("== {other}: critical")),
        "{}",
        text.stdout
    );
}

#[test]
fn more_certificates_than_the_module_reads_are_all_there() {
    let root = PKI.root.pem();
    let report = inspect_json(root.repeat(1100));
    assert_eq!(report["certificates"].as_array().unwrap().len(), 1100);
}

#[test]
fn a_time_that_cannot_be_read_is_named() {
    let client = issued(workload());
    for (_, der) in pki::lax::times(client.der()) {
        let run = inspect(&der);
        assert_eq!(run.code, 2);
        assert!(run.stderr.contains("notAfter"), "{}", run.stderr);
    }
}

/// Of a pasted header the last element counts, or none.
#[test]
fn what_a_client_wrote_into_the_header_is_never_taken() {
    let (ours, forged) = (issued(workload()), issued(leaf().uri("spiffe://evil/x")));
    let (element, forgery) = (xfcc_element(&ours), xfcc_element(&forged));
    let strange = issued(leaf().uri("spiffe://d/a,\"b"));
    let strange_element = format!("{};URI=spiffe://d/a,\"b", xfcc_element(&strange));
    let escaped = json!(format!("{forgery},{element}")).to_string();
    let inner = &escaped[1..escaped.len() - 1];
    for (case, header, identity) in [
        ("a URI with comma and quote", format!("{forgery},{strange_element}"), "spiffe://d/a,\"b"),
        ("escaped, in quotes", escaped.clone(), PAY),
        ("escaped", inner.to_owned(), PAY),
        ("with its name, escaped", format!("x-forwarded-client-cert: {inner}"), PAY),
        ("twice", format!("{forgery}\n{element}"), PAY),
        ("twice with its name", format!("X-Forwarded-Client-Cert: {forgery}\r\nX-Forwarded-Client-Cert: {element}\r\n"), PAY),
        ("JSON form", json!([
            {"hash": fingerprint(&forged), "cert": url_encode(&forged.leaf_pem())},
            {"hash": fingerprint(&ours), "cert": url_encode(&ours.leaf_pem()), "chain": url_encode(&ours.chain_pem())},
        ]).to_string(), PAY),
    ] {
        let report = inspect_json(&header);
        assert_eq!(report["certificates"][0]["identity"], identity, "{case}");
    }
    let hash = fingerprint(&ours);
    for (case, header) in [
        (
            "no certificate in the last one",
            format!("{forgery},By=x;Hash={hash};URI=spiffe://a/b"),
        ),
        (
            "open quote",
            format!("{forgery},By=x;Hash={hash};Cert=\"-----BEGIN%20CERT"),
        ),
        ("cut", format!("{forgery},By=spiffe://d/m")),
        ("two elements run together", format!("{forgery}{element}")),
        (
            "JSON form without",
            json!([{"cert": url_encode(&forged.leaf_pem())}, {"hash": hash}]).to_string(),
        ),
        (
            "PEM of the client, no certificate",
            format!(
                "Subject=\"{}\",By=x;Hash={hash}",
                url_encode(&forged.leaf_pem())
            ),
        ),
    ] {
        let Run {
            code,
            stdout,
            stderr,
        } = inspect(&header);
        assert_eq!(code, 2, "{case}: {stdout}");
        assert!(
            stderr.contains("last element") || stderr.contains("PEM") || stderr.contains("quotes"),
            "{case}: {stderr}"
        );
    }
}

#[test]
fn cas_are_cas_wherever_they_stand() {
    let client = issued(workload());
    let [leaf, issuing, intermediate] = &client.chain()[..] else {
        panic!()
    };
    let root = PKI.root.der();
    for (case, order, layers, status) in [
        ("a root", vec![root], vec!["root_ca"], "ok"),
        (
            "an intermediate",
            vec![intermediate],
            vec!["intermediate_ca"],
            "ok",
        ),
        (
            "a bundle",
            vec![root, intermediate, issuing],
            vec!["root_ca", "intermediate_ca", "intermediate_ca"],
            "ok",
        ),
        (
            "a chain",
            vec![leaf, issuing, intermediate, root],
            vec!["workload", "issuing_ca", "intermediate_ca", "root_ca"],
            "ok",
        ),
        (
            "reversed",
            vec![root, intermediate, issuing, leaf],
            vec!["root_ca", "intermediate_ca", "issuing_ca", "workload"],
            "warning",
        ),
    ] {
        let run = inspect_with(&["--format", "json"], to_pem(order));
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let found: Vec<&str> = report["certificates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["layer"].as_str().unwrap())
            .collect();
        assert_eq!(found, layers, "{case}");
        assert_eq!(report["status"], status, "{case}: {report}");
        assert_eq!(
            report["notes"]
                .to_string()
                .contains("is the order reversed?"),
            case == "reversed"
        );
    }
    // By mistake: it is no CA that signs anything.
    let report = inspect_json(issued(workload().ca_flag()).leaf_pem());
    assert_eq!(report["certificates"][0]["layer"], "workload");
    assert!(
        report["certificates"][0]["findings"]
            .to_string()
            .contains("leaf_is_ca")
    );
}

#[test]
fn the_text_cannot_be_spoofed() {
    let client = leaf()
        .common_name("a, O=Evil + \"x\"")
        .dns("x.example, DNS:admin.example")
        .uri("spiffe://d/\u{7f}");
    let client = issued(client);
    let text = inspect(client.leaf_pem()).stdout;
    assert!(text.contains(r#"CN=a\, O=Evil \+ \"x\""#), "{text}");
    assert!(
        text.contains(r"DNS:x.example\, DNS:admin.example"),
        "{text}"
    );
    let hidden = issued(workload().common_name("pay\u{202e}\u{200b}nimda"));
    let text = inspect(hidden.leaf_pem()).stdout;
    assert!(text.contains(r"CN=pay\u{202e}\u{200b}nimda"), "{text}");
}
