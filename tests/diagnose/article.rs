//! Failures that people meet, each built for real on two Envoys, and the verdict that they need. docs/diagnose.md shows
//! what is printed here.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use regex::Regex;
use serde_json::{Value, json};
use testbed::pki::{DAY, ExtendedKeyUsage, LeafBuilder, Lifetime, now};
use testbed::stats::eventually;
use testbed::{Ca, Envoy, Hierarchy, TrustBundle, workspace_root};

use crate::proxies::{Side, bootstrap, client, diagnose, is_accepted, server};

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/pay";

/// A client and a server, each with a proxy of its own.
struct Shop {
    cart: Envoy,
    pay: Envoy,
}

impl Shop {
    fn start(cart: &Side, pay: &Side) -> Result<Self> {
        let pay = Envoy::start(&bootstrap(&[server("inbound", "0", pay)?], &[]), 1)?;
        let port = pay.listener_port("inbound")?;
        let (listener, cluster) = client("pay", &port.to_string(), cart)?;
        let cart = Envoy::start(&bootstrap(&[listener], &[cluster]), 1)?;
        Ok(Self { cart, pay })
    }

    fn is_open(&self) -> Result<bool> {
        Ok(is_accepted(self.cart.listener_port("to-pay")?))
    }

    fn urls(&self) -> [String; 2] {
        [&self.cart, &self.pay].map(|envoy| format!("http://{}", envoy.admin()))
    }

    /// What is said of both.
    fn diagnose(&self, more: &[&str]) -> Result<(Value, u8)> {
        let [cart, pay] = self.urls();
        diagnose(&[more, &[&*cart, &*pay]].concat())
    }

    /// The same for people, with what differs each time made the same.
    fn text(&self, more: &[&str]) -> Result<String> {
        let [cart, pay] = self.urls();
        let all = ["mtls-watch", "diagnose"]
            .iter()
            .chain(more)
            .map(|it| (*it).to_owned());
        let output = mtls_watch_cli::execute(all.chain([cart.clone(), pay.clone()]));
        ensure!(output.complaint.is_empty(), "{}", output.complaint);
        // As long, so that lines break at the same places.
        let text = output
            .text
            .replace(&cart, "http://10.0.0.1:15000")
            .replace(&pay, "http://10.0.0.2:15000");
        Ok(text)
    }
}

/// A part of docs/diagnose.md, compared with what it should be, or, with UPDATE_DOCS set, written. Digits of keys, of
/// ports and of times are others each time.
fn document(name: &str, text: &str) -> Result<()> {
    let path = workspace_root().join("docs/diagnose.md");
    let page = fs::read_to_string(&path)?;
    let (begin, end) = (
        format!("<!-- {name}:begin -->\n"),
        format!("<!-- {name}:end -->"),
    );
    let (before, rest) = page.split_once(&begin).context("begin marker")?;
    let (found, after) = rest.split_once(&end).context("end marker")?;
    let expected = format!("```text\n{text}```\n");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{expected}{end}{after}"))?;
        return Ok(());
    }
    ensure!(
        without_digits(found)? == without_digits(&expected)?,
        "docs/diagnose.md, {name}: run `UPDATE_DOCS=1 cargo test --test diagnose`\n{expected}"
    );
    Ok(())
}

/// Words without the digits that differ, and without line breaks, which follow them: also within "23h 59m".
fn without_digits(text: &str) -> Result<String> {
    let key = Regex::new(r":[0-9a-f]{8}\b")?;
    let number = Regex::new(r"[0-9]+")?;
    let unit = Regex::new(r"(N[dhms] )?N[dhms]\b")?;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = key.replace_all(&text, ":K");
    let text = number.replace_all(&text, "N");
    Ok(unit.replace_all(&text, "SPAN").into_owned())
}

fn leaf(cas: &Hierarchy, uri: &str) -> LeafBuilder {
    cas.leaf().uri(uri)
}

fn sound(cas: &Hierarchy, uri: &str) -> Result<Side> {
    Ok(Side::new(&leaf(cas, uri).issue()?, &cas.trust_bundle()))
}

/// A step of a target in the report.
fn step<'a>(report: &'a Value, target: usize, name: &str) -> Result<&'a Value> {
    let steps = report["targets"][target]["steps"]
        .as_array()
        .context("no steps")?;
    steps
        .iter()
        .find(|it| it["step"] == name)
        .with_context(|| format!("no step {name}"))
}

fn verdict(report: &Value, key: &str) -> String {
    report["verdict"][key]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn two_that_accept_each_other() -> Result<()> {
    let cas = Hierarchy::new()?;
    let mut cart = sound(&cas, CLIENT)?;
    cart.matchers = json!([{"san_type": "URI", "matcher": {"exact": SERVER}}]);
    let shop = Shop::start(&cart, &sound(&cas, SERVER)?)?;
    ensure!(shop.is_open()?);
    let (report, code) = shop.diagnose(&[])?;
    assert_eq!(
        (report["result"].as_str(), code),
        (Some("sound"), 0),
        "{report:#}"
    );
    assert_eq!(report["handshakes"][0]["accepted"], true);
    assert_eq!(report["verdict"], Value::Null);
    // Monday in thirty years: nothing is left.
    let monday = "2056-12-04T00:00:00Z";
    let (report, code) = shop.diagnose(&["--at", monday])?;
    assert_eq!(
        (verdict(&report, "word"), code),
        ("expired".to_owned(), 1),
        "{report:#}"
    );
    document("sound", &shop.text(&[])?)
}

/// "The intermediate CA certificate expired. No one knew it had a 90-day TTL."
#[test]
fn an_intermediate_ca_of_ninety_days_ends_under_a_running_mesh() -> Result<()> {
    const LEFT: i64 = 30;
    let root = Ca::root("Root CA").issue()?;
    let ninety_days = Lifetime::from_now(LEFT - 90 * DAY, LEFT);
    let end = ninety_days.not_after;
    let intermediate = root
        .subordinate("Intermediate CA")
        .lifetime(ninety_days)
        .issue()?;
    // Above what ends: whoever issued these did not look.
    let long = Lifetime::days(365);
    let issuing = intermediate
        .subordinate("Issuing CA")
        .lifetime(long)
        .issue()?;
    let cas = Hierarchy {
        root,
        intermediate,
        issuing,
    };
    let shop = Shop::start(&sound(&cas, CLIENT)?, &sound(&cas, SERVER)?)?;
    let before = shop.is_open()?;
    if now() < end {
        ensure!(before);
        let (report, code) = shop.diagnose(&[])?;
        if now() < end {
            assert_eq!(
                (report["result"].as_str(), code),
                (Some("will_break"), 1),
                "{report:#}"
            );
            assert_eq!(report["handshakes"][0]["accepted"], true);
            assert_eq!(
                (verdict(&report, "word"), report["next"]["at"].as_i64()),
                ("expires_critical".to_owned(), Some(end))
            );
        }
    }
    eventually(Duration::from_secs(60), || {
        ensure!(!shop.is_open()?, "still accepted");
        // BoringSSL refuses in the last second of its validity already.
        ensure!(now() > end, "its last second");
        Ok(())
    })?;
    let (report, code) = shop.diagnose(&["--watch", "1s"])?;
    assert_eq!(
        (report["result"].as_str(), code),
        (Some("broken"), 1),
        "{report:#}"
    );
    assert_eq!(report["handshakes"][0]["accepted"], false);
    assert_eq!(verdict(&report, "step"), "expiry");
    assert_eq!(verdict(&report, "word"), "expired");
    let text = verdict(&report, "text");
    ensure!(
        text.starts_with("intermediate CA Intermediate_CA:")
            || text.starts_with("intermediate CA Intermediate CA:"),
        "{text}"
    );
    ensure!(verdict(&report, "who").contains("CA above"), "{report:#}");
    ensure!(
        verdict(&report, "runbook").ends_with("MtlsIntermediateCaExpiring.md"),
        "{report:#}"
    );
    document("intermediate", &shop.text(&[])?)
}

/// "a certificate with serverAuth only — no clientAuth. The error message mentioned nothing about key usage."
#[test]
fn a_leaf_with_server_auth_alone() -> Result<()> {
    let cas = Hierarchy::new()?;
    let server_only = leaf(&cas, CLIENT)
        .extended_key_usages(&[ExtendedKeyUsage::ServerAuth])
        .issue()?;
    let cart = Side::new(&server_only, &cas.trust_bundle());
    let shop = Shop::start(&cart, &sound(&cas, SERVER)?)?;
    ensure!(!shop.is_open()?);
    let (report, code) = shop.diagnose(&[])?;
    assert_eq!(code, 1);
    assert_eq!(verdict(&report, "step"), "usage");
    assert_eq!(verdict(&report, "word"), "client_auth_missing");
    assert_eq!(verdict(&report, "target"), shop.urls()[0]);
    assert_eq!(
        verdict(&report, "change"),
        "add clientAuth to extendedKeyUsage"
    );
    assert_eq!(step(&report, 0, "chain")?["result"], "ok", "{report:#}");
    // The server has counted it, and says no more than that.
    let counters = step(&report, 1, "counters")?;
    let counted = counters["lines"].as_array().context("no lines")?;
    ensure!(
        counted.iter().any(|line| line["text"]
            .as_str()
            .is_some_and(|text| text.contains("fail_verify_error 1"))),
        "{counters:#}"
    );
    document("server-auth", &shop.text(&[])?)
}

/// "The cardinal rule of CA rotation: add the new CA to trust stores BEFORE issuing certificates with it."
#[test]
fn an_issuing_ca_that_signs_before_it_is_trusted() -> Result<()> {
    let (old, new) = (Hierarchy::new()?, Hierarchy::new()?);
    let both = TrustBundle::of([&old.root, &new.root]);
    let cart = Side::new(&leaf(&new, CLIENT).issue()?, &both);
    let shop = Shop::start(&cart, &sound(&old, SERVER)?)?;
    ensure!(!shop.is_open()?);
    let (report, code) = shop.diagnose(&[])?;
    assert_eq!(code, 1);
    assert_eq!(verdict(&report, "step"), "chain");
    assert_eq!(verdict(&report, "word"), "unknown_ca");
    let text = verdict(&report, "text");
    ensure!(
        text.contains("a CA of its issuer's name, but with another key"),
        "{text}"
    );
    let server = &shop.urls()[1];
    assert_eq!(
        verdict(&report, "who"),
        format!("whoever distributes the trust bundle of {server}")
    );
    ensure!(
        verdict(&report, "runbook").ends_with("MtlsCardinalRuleBroken.md"),
        "{report:#}"
    );
    document("rotation", &shop.text(&[])?)
}

/// Each alone: what its own bundle says of it, and what it has counted.
#[test]
fn one_proxy_alone() -> Result<()> {
    let cas = Hierarchy::new()?;
    let shop = Shop::start(&sound(&cas, CLIENT)?, &sound(&cas, SERVER)?)?;
    ensure!(shop.is_open()?);
    for url in shop.urls() {
        let (report, code) = diagnose(&[&url])?;
        assert_eq!(
            (report["result"].as_str(), code),
            (Some("sound"), 0),
            "{report:#}"
        );
        for (name, result) in [
            ("expiry", "ok"),
            ("chain", "ok"),
            ("names", "ok"),
            ("usage", "ok"),
            ("counters", "ok"),
        ] {
            assert_eq!(
                step(&report, 0, name)?["result"],
                result,
                "{name}: {report:#}"
            );
        }
    }
    // Refused by what it does not know: an Envoy that is none of these.
    let echo = testbed::Server::http_echo(None)?;
    let url = format!("http://127.0.0.1:{}", echo.port());
    let output = mtls_watch_cli::execute(["mtls-watch", "diagnose", &url]);
    assert_eq!((output.code, output.text.as_str()), (2, ""));
    ensure!(
        output.complaint.contains("no admin interface of Envoy"),
        "{}",
        output.complaint
    );
    Ok(())
}

/// A secret of SDS that never came: nothing is in the dump but its name.
#[test]
fn a_secret_that_nobody_supplies() -> Result<()> {
    let cas = Hierarchy::new()?;
    let mut listener = server("inbound", "0", &sound(&cas, SERVER)?)?;
    let source = json!({"resource_api_version": "V3", "api_config_source": {
        "api_type": "GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds"}}],
    }});
    let context =
        &mut listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"];
    context["tls_certificates"].take();
    context["tls_certificate_sds_secret_configs"] =
        json!([{"name": "default", "sds_config": source}]);
    let nobody = json!({
        "name": "sds",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
    });
    // Envoy waits 15 seconds for it, and is up then.
    let node = ["--service-node", "pay", "--service-cluster", "shop"];
    let envoy = Envoy::start_with(&bootstrap(&[listener], &[nobody]), 1, &node)?;
    let (report, code) = diagnose(&[&format!("http://{}", envoy.admin())])?;
    assert_eq!(code, 1);
    assert_eq!(verdict(&report, "word"), "secret_warming");
    ensure!(
        verdict(&report, "text").starts_with("secret default"),
        "{report:#}"
    );
    Ok(())
}
