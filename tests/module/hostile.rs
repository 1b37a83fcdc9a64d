//! Input that somebody made to do harm: nothing of it stops the VM or a request, and all of it is
//! counted.

use std::collections::BTreeSet;

use wasmtime::Result;

use crate::attributes::{Attributes, INBOUND};
use crate::host::{Headers, Proxy, Worker};
use crate::pki::{Certificate, Leaf, url_encode};

const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";

/// A proxy with one worker, and what it must have counted by now.
struct Watch {
    proxy: Proxy,
    worker: Worker,
    requests: u64,
    connections: u64,
}

impl Watch {
    fn new() -> Result<Self> {
        let proxy = Proxy::new();
        let worker = proxy.worker("")?;
        Ok(Self {
            proxy,
            worker,
            requests: 0,
            connections: 0,
        })
    }

    /// Shows the certificate from every side, in every way.
    fn show(&mut self, case: &str, certificate: &Certificate) -> Result<()> {
        self.show_attributes(case, &Attributes::http().client(certificate))?;
        self.show_attributes(case, &Attributes::http().server(certificate))?;
        let reason = "TLS_error:|268435581:SSL routines:OPENSSL_internal:\
                      CERTIFICATE_VERIFY_FAILED:TLS_error_end";
        let refused = Attributes::network().refused(Some(certificate), reason);
        self.worker.refused_handshake(&refused)?;
        Ok(())
    }

    /// One exchange and one connection with these attributes; each is to count once.
    fn show_attributes(&mut self, case: &str, http: &Attributes) -> Result<()> {
        self.show_headers(case, http, Vec::new())?;
        let network = http.clone().without("request.protocol").reconnected();
        self.worker.connection(&network)?;
        self.connections += 1;
        let counted = self.proxy.total("mtls_connections_total");
        assert_eq!(counted, self.connections, "{case}");
        Ok(())
    }

    fn show_headers(&mut self, case: &str, http: &Attributes, headers: Headers) -> Result<()> {
        self.worker.exchange_with(http, headers)?;
        self.requests += 1;
        let counted = self.proxy.total("mtls_requests_total");
        assert_eq!(counted, self.requests, "{case}");
        Ok(())
    }

    /// One exchange and one connection with attributes from which it may not even be clear what
    /// is to be counted; but something is.
    fn see(&mut self, case: &str, http: &Attributes) -> Result<()> {
        let before = self.proxy.total("_total");
        self.worker.exchange(http)?;
        let between = self.proxy.total("_total");
        assert!(between > before, "{case}: no request counted");
        let network = http.clone().without("request.protocol").reconnected();
        self.worker.connection(&network)?;
        let after = self.proxy.total("_total");
        assert!(after > between, "{case}: no connection counted");
        Ok(())
    }

    /// What any case may leave behind: names in the promised alphabet, of bounded length, and no
    /// raw bytes in the log.
    fn finish(mut self) -> Result<()> {
        self.worker.tick()?;
        for name in self.proxy.metrics().keys() {
            assert!(name.len() < 600, "{} bytes: {name}", name.len());
            assert!(name.bytes().all(is_promised), "{name:?}");
        }
        for (_, line) in self.worker.logs() {
            assert!(line.len() < 2000, "{} bytes: {line}", line.len());
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        Ok(())
    }
}

/// The alphabet of label values, and what the encoding of labels takes on top of it.
fn is_promised(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._~:/@+-=;".contains(&byte)
}

#[test]
fn certificates_at_the_limits_of_the_format() -> Result<()> {
    let names = Leaf::nameless()
        .with(|leaf| (0..100).fold(leaf, |leaf, index| leaf.dns(&format!("host-{index}.test"))));
    let uris = Leaf::nameless()
        .with(|leaf| (0..100).fold(leaf, |leaf, index| leaf.uri(&format!("spiffe://d/{index}"))));
    let address = Leaf::nameless().with(|leaf| leaf.ip([192, 0, 2, 1].into()));
    let long = "x".repeat(60_000);
    let mut watch = Watch::new()?;
    for (case, leaf) in [
        ("100 names", names),
        ("100 URIs", uris),
        ("no SAN, no subject", Leaf::nameless()),
        ("an address only", address),
        ("an empty URI", Leaf::new("")),
        ("64 KB of name", Leaf::new(PAY).common_name(&long)),
        ("64 KB of URI", Leaf::new(&format!("spiffe://d/{long}"))),
        (
            "from 1950 to 9999",
            Leaf::new(PAY).between("1950-01-01T00:00:00Z", "9999-12-31T00:00:00Z"),
        ),
        (
            "1950",
            Leaf::new(PAY).between("1950-01-01T00:00:00Z", "1950-12-31T00:00:00Z"),
        ),
        (
            "9999",
            Leaf::new(PAY).between("9999-01-01T00:00:00Z", "9999-12-31T00:00:00Z"),
        ),
        (
            "ends before it begins",
            Leaf::new(PAY).between("2030-01-01T00:00:00Z", "2020-12-31T00:00:00Z"),
        ),
        (
            "newline in the name",
            Leaf::new("").common_name("a\nlevel=error b"),
        ),
        (
            "escape in the name",
            Leaf::new("").common_name("\u{1b}[2J\"\\\0\u{7f}"),
        ),
        (
            "label in the name",
            Leaf::new("").common_name("a;.;status=.=ok"),
        ),
        (
            "label in the URI",
            Leaf::new("spiffe://d/a;.;status=.=ok;.;b"),
        ),
        (
            "right to left",
            Leaf::new("").common_name("\u{202e}moc.elpmaxe"),
        ),
    ] {
        watch.show(case, &leaf.sign())?;
    }
    watch.finish()
}

#[test]
fn names_that_are_no_text() -> Result<()> {
    let name = Leaf::new("").common_name("replace-me").sign();
    let identity = Certificate::workload("spiffe://replace-me");
    let mut watch = Watch::new()?;
    for bytes in [
        &[0xff; 10],
        &[0; 10],
        &[0xc3; 10],
        b"\xed\xa0\x80\xf4\x90\x80\x80\r\n\t",
    ] {
        watch.show("subject", &name.patched(b"replace-me", bytes))?;
        watch.show("URI", &identity.patched(b"replace-me", bytes))?;
    }
    watch.finish()
}

#[test]
fn a_certificate_cut_off_or_changed_at_any_byte() -> Result<()> {
    let whole = Certificate::workload(PAY);
    let mut watch = Watch::new()?;
    for at in 0..whole.der.len() {
        let cut = Certificate::from_der(&whole.der[..at]);
        watch.show(&format!("cut off at {at}"), &cut)?;
        for by in [0x00, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed.der[at] ^= by;
            watch.show(&format!("byte {at} changed by {by}"), &changed)?;
        }
    }
    watch.finish()
}

#[test]
fn pem_that_is_none() -> Result<()> {
    let pem = Certificate::workload(PAY).pem();
    let encoded = url_encode(&pem);
    let cuts = (0..pem.len()).step_by(11).map(|at| pem[..at].to_owned());
    let encoded_cuts = (0..encoded.len()).map(|at| encoded[..at].to_owned());
    let rubbish = [
        "-",
        "%",
        "%%%",
        "%zz%-1",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE----------END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n=\n-----END CERTIFICATE-----",
        "-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----",
    ];
    let many = [pem.repeat(50), "A".repeat(65_536), "%0A".repeat(30_000)];
    let mut watch = Watch::new()?;
    let rubbish = rubbish.into_iter().map(str::to_owned);
    for text in rubbish
        .chain(many)
        .chain(cuts)
        .chain(encoded_cuts.step_by(11))
    {
        let case: String = text.chars().take(100).collect();
        let attributes = Attributes::http()
            .client(&Certificate::from_der(text.as_bytes()))
            .text("connection.peer_certificate", text);
        watch.show_attributes(&case, &attributes)?;
    }
    watch.finish()
}

#[test]
fn forwarded_certificates_of_any_form() -> Result<()> {
    let client = Certificate::workload(PAY);
    let certificate = client.url_encoded_pem();
    let good = format!("Hash={};Cert=\"{certificate}\"", client.digest());
    let mut headers = vec![
        String::new(),
        ",,,;;;===".into(),
        "\"".into(),
        "Cert=\"".into(),
        "Cert=\"\\".into(),
        format!("Cert=\"{certificate}"),
        format!("Subject=\"CN=\\\"a,b;c=d\\\"\";Cert=\"{certificate}\""),
        format!("Chain=\"{}\"", certificate.repeat(20)),
        format!("Cert={certificate};Cert={certificate}"),
        "Cert=\"".repeat(10_000),
        "By=a,".repeat(20_000),
        "\"\\".repeat(30_000),
        "x".repeat(65_536),
        vec![good.as_str(); 100].join(","),
        "[{\"Cert\": \"x\"}]".into(),
        "{\"Cert\": ".repeat(10_000),
        "[".repeat(65_536),
        format!("[{{\"Cert\": \"{certificate}\", \"Chain\": 7}}]"),
    ];
    headers.extend((0..good.len()).step_by(17).map(|at| good[..at].to_owned()));
    let attributes = Attributes::http()
        .client(&client)
        .without("connection.peer_certificate");
    let mut watch = Watch::new()?;
    for header in headers {
        let case: String = header.chars().take(100).collect();
        let headers = vec![("x-forwarded-client-cert".into(), header.into_bytes())];
        watch.show_headers(&case, &attributes.clone().reconnected(), headers)?;
    }
    let binary = vec![("x-forwarded-client-cert".into(), vec![0xff; 100])];
    watch.show_headers("no text", &attributes.reconnected(), binary)?;
    watch.finish()
}

/// An element that the client wrote says nothing of the client.
#[test]
fn only_the_last_forwarded_element_is_believed() -> Result<()> {
    let client = Certificate::workload(PAY);
    let claimed = Certificate::workload("spiffe://cluster.local/ns/shop/sa/admin");
    let header = format!(
        "Cert=\"{}\",Cert=\"{}\"",
        claimed.url_encoded_pem(),
        client.url_encoded_pem()
    );
    let attributes = Attributes::http()
        .client(&client)
        .without("connection.peer_certificate");
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let headers = vec![("x-forwarded-client-cert".into(), header.into_bytes())];
    let stream = worker.exchange_with(&attributes, headers)?;
    worker.tick()?;
    let identity = stream.filter_state.get("mtls_watch.identity");
    assert_eq!(identity.map(Vec::as_slice), Some(PAY.as_bytes()));
    let metrics = proxy.metrics();
    assert!(!metrics.keys().any(|name| name.contains("admin")));
    Ok(())
}

/// Envoy forwards the header as it is where it is configured to trust who sends it.
#[test]
fn a_forwarded_certificate_of_somebody_else_is_not_believed() -> Result<()> {
    let client = Certificate::workload(PAY);
    let claimed = Certificate::workload("spiffe://cluster.local/ns/shop/sa/admin");
    let header = format!("Cert=\"{}\"", claimed.url_encoded_pem());
    let attributes = Attributes::http()
        .client(&client)
        .without("connection.peer_certificate");
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let headers = vec![("x-forwarded-client-cert".into(), header.into_bytes())];
    let stream = worker.exchange_with(&attributes, headers)?;
    let identity = stream.filter_state.get("mtls_watch.identity");
    assert_ne!(
        identity,
        Some(&b"spiffe://cluster.local/ns/shop/sa/admin".to_vec())
    );
    assert_eq!(proxy.total("status=.=ok;.;mtls_requests_total"), 0);
    assert_eq!(proxy.total("mtls_requests_total"), 1);
    Ok(())
}

#[test]
fn attributes_of_the_wrong_type_or_missing() -> Result<()> {
    let client = Certificate::workload(PAY);
    let whole = Attributes::http().client(&client).server(&client);
    let mut watch = Watch::new()?;
    watch.show_attributes("as it should be", &whole.clone().direction(INBOUND))?;
    let read = watch.worker.host().reads.keys().cloned();
    let paths: BTreeSet<_> = read.chain(whole.paths()).collect();
    let values: [&[u8]; 8] = [
        b"",
        b"\x02",
        b"\xff",
        b"true",
        &[0xff; 8],
        &[0x80; 7],
        "\u{202e}\0\n".as_bytes(),
        &[0xfe; 65_536],
    ];
    for path in paths.iter().filter(|path| *path != "request.protocol") {
        let base = || whole.clone().reconnected().direction(INBOUND);
        watch.see(&format!("{path} missing"), &base().without(path))?;
        for value in values {
            let start = &value[..value.len().min(8)];
            let case = format!("{path} is {start:?}…");
            watch.see(&case, &base().raw(path, value))?;
        }
    }
    watch.finish()
}
