//! `diagnose --prometheus`: two sidecars with the module and a Prometheus that scrapes them. Of each failure of the article
//! it has the verdict that `diagnose` has of the two admin interfaces.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::envoy::free_port;
use testbed::pki::{DAY, ExtendedKeyUsage, LeafBuilder, Lifetime, now};
use testbed::stats::eventually;
use testbed::{Ca, Client, Envoy, Hierarchy, Prometheus, Sample, Server, TrustBundle};

use crate::proxies::diagnose;

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";
/// Polls, ticks and scrapes, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(90);

/// What a sidecar is to have.
struct Side {
    leaf: LeafBuilder,
    trust: TrustBundle,
}

/// `cart` calls `pay`, and a Prometheus scrapes both.
struct Shop {
    cart: Envoy,
    pay: Envoy,
    prometheus: Prometheus,
    _app: Server,
    _directories: [TempDir; 2],
}

impl Shop {
    fn start(cart: Side, pay: Side) -> Result<Self> {
        let app = Server::http_echo(None)?;
        let ports = [free_port()?, free_port()?];
        let sidecar = |side: Side, own: u16, peer: u16| {
            let directory = TempDir::new()?;
            side.leaf.issue()?.write_to(directory.path())?;
            side.trust.write_to(directory.path())?;
            let sample = Sample::local("sidecar.yaml", directory.path())?
                .configuration(
                    r#"{"hierarchy": {"admin_cluster": "prometheus_stats", "interval": "5s"}}"#,
                )
                .upstream("app_http", app.port())
                .listen("inbound_http", own)
                .upstream("peer_http", peer);
            anyhow::Ok((sample.start(1)?, directory))
        };
        let (pay, of_pay) = sidecar(pay, ports[1], ports[0])?;
        let (cart, of_cart) = sidecar(cart, ports[0], ports[1])?;
        let target = |name: &str, envoy: &Envoy| json!({"targets": [envoy.admin().to_string()], "labels": {"namespace": "shop", "instance": name}});
        let configuration = json!({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{
                "job_name": "mesh",
                "metrics_path": "/stats/prometheus",
                "static_configs": [target("cart", &cart), target("pay", &pay)],
            }],
        });
        Ok(Self {
            prometheus: Prometheus::start(&configuration.to_string(), &[])?,
            cart,
            pay,
            _app: app,
            _directories: [of_cart, of_pay],
        })
    }

    /// A call, and whether it was answered.
    fn call(&self) -> Result<bool> {
        let port = self.cart.listener_port("outbound_http")?;
        let reply = Client::plaintext().get(port, "/", &[]);
        Ok(reply.is_ok_and(|reply| reply.status == 200))
    }

    fn by_series(&self) -> Result<(Value, u8)> {
        let url = format!("http://127.0.0.1:{}", self.prometheus.port());
        diagnose(&["--prometheus", &url])
    }

    fn by_admin(&self) -> Result<Value> {
        let [cart, pay] = [&self.cart, &self.pay].map(|envoy| format!("http://{}", envoy.admin()));
        Ok(diagnose(&[&cart, &pay])?.0)
    }

    /// Calls until the series tell of a failure, and compares the verdicts.
    fn agrees(&self, expected: [&str; 2], runbook: &str) -> Result<Value> {
        let (report, code) = eventually(DEADLINE, || {
            ensure!(!self.call()?, "answered");
            let (report, code) = self.by_series()?;
            let verdict = &report["verdict"];
            ensure!(
                [&verdict["step"], &verdict["word"]] == expected,
                "{report:#}"
            );
            Ok((report, code))
        })?;
        assert_eq!((&report["result"], code), (&json!("broken"), 1));
        let admin = self.by_admin()?;
        for key in ["step", "word", "change", "runbook"] {
            assert_eq!(
                report["verdict"][key], admin["verdict"][key],
                "{key}: {report:#}"
            );
        }
        let page = report["verdict"]["runbook"].as_str().unwrap_or_default();
        ensure!(page.ends_with(runbook), "{page}");
        Ok(report)
    }
}

fn text(report: &Value, key: &str) -> String {
    report["verdict"][key]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn two_that_accept_each_other_are_sound_by_their_series() -> Result<()> {
    let cas = Hierarchy::new()?;
    let side = |uri: &str| Side {
        leaf: cas.leaf().uri(uri),
        trust: cas.trust_bundle(),
    };
    let shop = Shop::start(side(CART), side(PAY))?;
    eventually(DEADLINE, || {
        ensure!(shop.call()?);
        let (report, code) = shop.by_series()?;
        let steps = report["targets"][0]["steps"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let results: Vec<&Value> = steps.iter().map(|step| &step["result"]).collect();
        ensure!(results == ["ok"; 5], "{report:#}");
        ensure!(
            (&report["result"], code) == (&json!("sound"), 0),
            "{report:#}"
        );
        let expiry = steps[0]["summary"].as_str().unwrap_or_default();
        ensure!(
            expiry.contains("proxies with leaves under it: 2"),
            "{expiry}"
        );
        Ok(())
    })
}

#[test]
fn an_intermediate_ca_has_ended() -> Result<()> {
    const LEFT: i64 = 25;
    let root = Ca::root("Root CA").issue()?;
    let ninety_days = Lifetime::from_now(LEFT - 90 * DAY, LEFT);
    let end = ninety_days.not_after;
    let intermediate = root
        .subordinate("Intermediate CA")
        .lifetime(ninety_days)
        .issue()?;
    let issuing = intermediate
        .subordinate("Issuing CA")
        .lifetime(Lifetime::days(365))
        .issue()?;
    let cas = Hierarchy {
        root,
        intermediate,
        issuing,
    };
    let side = |uri: &str| Side {
        leaf: cas.leaf().uri(uri),
        trust: cas.trust_bundle(),
    };
    let shop = Shop::start(side(CART), side(PAY))?;
    eventually(DEADLINE, || {
        ensure!(now() > end, "its last second");
        Ok(())
    })?;
    let report = shop.agrees(["expiry", "expired"], "MtlsIntermediateCaExpiring.md")?;
    let text = text(&report, "text");
    ensure!(
        text.starts_with("intermediate CA Intermediate_CA:"),
        "{text}"
    );
    ensure!(text.contains("proxies with leaves under it: 2"), "{text}");
    ensure!(
        report["verdict"]["who"]
            .as_str()
            .is_some_and(|who| who.contains("CA above"))
    );
    Ok(())
}

#[test]
fn a_leaf_has_server_auth_alone() -> Result<()> {
    let cas = Hierarchy::new()?;
    let cart = Side {
        leaf: cas
            .leaf()
            .uri(CART)
            .extended_key_usages(&[ExtendedKeyUsage::ServerAuth]),
        trust: cas.trust_bundle(),
    };
    let pay = Side {
        leaf: cas.leaf().uri(PAY),
        trust: cas.trust_bundle(),
    };
    let shop = Shop::start(cart, pay)?;
    let report = shop.agrees(["usage", "client_auth_missing"], "MtlsClientAuthMissing.md")?;
    ensure!(text(&report, "text").starts_with("cart: "), "{report:#}");
    // And the server has seen it.
    let failed = eventually(DEADLINE, || {
        let (report, _) = shop.by_series()?;
        let step = &report["targets"][0]["steps"][4];
        let lines = step["lines"].as_array().cloned().unwrap_or_default();
        let line = lines
            .into_iter()
            .find(|line| line["word"] == "client_auth_missing");
        line.ok_or_else(|| anyhow::anyhow!("{step:#}"))
    })?;
    let said = failed["text"].as_str().unwrap_or_default();
    ensure!(said.contains("at 1 proxy, most at pay"), "{said}");
    Ok(())
}

#[test]
fn a_new_ca_signs_before_it_is_trusted() -> Result<()> {
    let (old, new) = (Hierarchy::new()?, Hierarchy::new()?);
    let cart = Side {
        leaf: new.leaf().uri(CART),
        trust: TrustBundle::of([&old.root, &new.root]),
    };
    let pay = Side {
        leaf: old.leaf().uri(PAY),
        trust: old.trust_bundle(),
    };
    let shop = Shop::start(cart, pay)?;
    let report = shop.agrees(["chain", "unknown_ca"], "MtlsCardinalRuleBroken.md")?;
    ensure!(
        text(&report, "text").starts_with("pay: does not trust "),
        "{report:#}"
    );
    assert_eq!(
        text(&report, "who"),
        "whoever distributes the trust bundle of pay"
    );
    Ok(())
}
