//! Certificates of minutes, which cert-manager renews: of the listener, of a client, and of the CA that clients are verified
//! by. Nothing pages while it works, and all is told in time when it does not.

use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use mesh_tests::gateway::page::Page;
use mesh_tests::gateway::shop::{GATEWAY, Shop};
use mesh_tests::kubectl::{apply, kubectl, run};
use mesh_tests::probe::Credentials;
use mesh_tests::prometheus::{ScaledRules, lines, nothing, query};
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually};
use serde_json::{Value, json};

use crate::installed;
use crate::page::proxies;

pub(crate) const SCENARIOS: &[Scenario] = &[
    holds("renewal::of_leaves", of_leaves),
    holds("renewal::of_the_clients_ca", of_the_clients_ca),
];

/// Two lifetimes of what lives longest, but for the CA that signs.
const LIFETIMES: Duration = Duration::from_secs(300);
/// All that is about the end of a certificate.
const ABOUT_ENDS: &str = "ALERTS{alertname=~\"Mtls(.*Expiring|RotationStalled|CertificateOutlivesIssuer)\", alertstate=\"firing\"}";

/// The Gateway with certificates from cert-manager. As it was, and cert-manager at work, when this is dropped.
struct Renewed {
    shop: &'static Shop,
    _rules: ScaledRules,
}

impl Renewed {
    /// With these CAs in the bundle for clients.
    fn start(bundle: &[&str]) -> Result<Self> {
        let shop = installed()?;
        apply(include_str!("renewal.yaml"))?;
        for certificate in ["renewed-ca", "renewed-www", "renewed-client", "ending-ca"] {
            let certificate = format!("certificate/{certificate}");
            shop.kubectl(&[
                "wait",
                &certificate,
                "--for=condition=Ready",
                "--timeout=60s",
            ])?;
        }
        let renewed = Self {
            shop,
            _rules: ScaledRules::pending_for("0s")?,
        };
        // Own certificates are read as often as a minute is long here.
        replace(
            shop,
            "envoyextensionpolicy",
            "mtls-watch",
            "/spec/wasm/0/config/hierarchy/interval",
            &json!("5s"),
        )?;
        let listener = "/spec/listeners/0/tls/certificateRefs/0/name";
        replace(shop, "gateway", GATEWAY, listener, &json!("renewed-www"))?;
        let refs = bundle
            .iter()
            .map(|name| json!({"group": "", "kind": "Secret", "name": name}));
        let validation = json!({"caCertificateRefs": refs.collect::<Vec<_>>()});
        shop.patch(
            "clienttrafficpolicy",
            "clients",
            &json!({"spec": {"tls": {"clientValidation": validation}}}),
        )?;
        eventually(DEADLINE, || renewed.call())?;
        Ok(renewed)
    }

    /// One request of the client, with what it has now.
    fn call(&self) -> Result<()> {
        let secret = self.shop.object("secret", "renewed-client")?;
        let shown = Credentials {
            chain: decoded(&secret["data"]["tls.crt"])?,
            key: decoded(&secret["data"]["tls.key"])?,
        };
        self.shop.get("/", &shown).map(drop)
    }

    /// Calls until all of these have been renewed. No call may fail meanwhile, and no alert about an end may fire.
    fn in_health(&self, until: impl Fn() -> Result<()>) -> Result<()> {
        let mut wrong: Option<Error> = None;
        eventually(LIFETIMES, || {
            let now = self.call().and_then(|()| nothing(ABOUT_ENDS));
            match now {
                Ok(()) => until(),
                Err(error) => {
                    wrong = Some(error);
                    Ok(())
                }
            }
        })?;
        wrong.map_or(Ok(()), |error| {
            Err(error).context("while cert-manager works")
        })
    }

    /// Stops cert-manager, and calls until these alerts fire; then starts it again, and waits until they do not. What is
    /// left of each certificate, in seconds, when its alert fires.
    fn stopped(&self, alerts: &[(String, String)]) -> Result<Vec<f64>> {
        scale(0)?;
        let left: Vec<Result<f64>> = alerts
            .iter()
            .map(|(alert, not_after)| {
                eventually(LIFETIMES, || {
                    // A client that is refused is told of in its own right.
                    self.call().ok();
                    ensure!(!query(alert)?.is_empty(), "does not fire: {alert}");
                    let left = query(&format!("min({not_after}) - time()"))?;
                    Ok(left.first().context(not_after.clone())?.value)
                })
            })
            .collect();
        scale(1)?;
        let left: Result<Vec<f64>> = left.into_iter().collect();
        let left = left?;
        for (alert, _) in alerts {
            eventually(2 * DEADLINE, || {
                self.call()?;
                nothing(alert)
            })?;
        }
        Ok(left)
    }
}

impl Drop for Renewed {
    fn drop(&mut self) {
        let back = || -> Result<()> {
            scale(1)?;
            self.shop.apply()?;
            let validation = json!({"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "client-ca"}]});
            let validation = json!({"spec": {"tls": {"clientValidation": validation}}});
            self.shop
                .patch("clienttrafficpolicy", "clients", &validation)?;
            let listener = "/spec/listeners/0/tls/certificateRefs/0/name";
            replace(self.shop, "gateway", GATEWAY, listener, &json!("www"))?;
            Page::checkout()?
                .run("kubectl apply -k envoy-config/envoy-gateway")
                .map(drop)
        };
        if let Err(error) = back() {
            eprintln!("{error:#}");
        }
    }
}

fn decoded(base64: &Value) -> Result<String> {
    let base64 = base64.as_str().context("no such key in the secret")?;
    run("base64", &["--decode"], Some(base64))
}

fn replace(shop: &Shop, kind: &str, name: &str, path: &str, value: &Value) -> Result<()> {
    let patch = json!([{"op": "replace", "path": path, "value": value}]).to_string();
    shop.kubectl(&["patch", kind, name, "--type", "json", "--patch", &patch])
        .map(drop)
}

fn scale(replicas: u32) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    let deployment = ["deployment/cert-manager", "--namespace", "cert-manager"];
    kubectl(&[&["scale"][..], &deployment, &[&replicas]].concat())?;
    kubectl(&[&["rollout", "status"][..], &deployment, &["--timeout=60s"]].concat()).map(drop)
}

/// Which certificate of a CA is in the bundle for clients: the label of the series that are 1.
fn in_bundle(ca: &str) -> Result<String> {
    let labels = format!("secret=\"shop/clients/ca.crt\", ca=~\"{ca}:.*\"");
    let found = query(&(proxies("mtls_trust_bundle_ca", &labels) + " == 1"))?;
    ensure!(
        found.len() == 1,
        "{ca} is in the bundle {} times:{}",
        found.len(),
        lines(&found)
    );
    Ok(found[0].label("certificate").to_owned())
}

fn of_leaves() -> Result<()> {
    let renewed = Renewed::start(&["renewed-ca"])?;
    let before = eventually(DEADLINE, || in_bundle("Renewed_CA"))?;
    // What `cmctl renew` does: the CA's own half hour is long.
    let now = query("vector(time())")?
        .first()
        .map_or(0.0, |now| now.value);
    let condition = json!({
        "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "by a test",
        "lastTransitionTime": run("date", &["--utc", "--iso-8601=seconds", &format!("--date=@{now}")], None)?.trim(),
    });
    let status = json!({"status": {"conditions": [condition]}}).to_string();
    renewed.shop.kubectl(&[
        "patch",
        "certificate",
        "renewed-ca",
        "--subresource",
        "status",
        "--type",
        "merge",
        "--patch",
        &status,
    ])?;
    let first = renewed.shop.object("secret", "renewed-client")?["data"]["tls.crt"].clone();
    renewed.in_health(|| {
        let rotations = proxies("mtls_own_rotations_total", "secret=\"shop/renewed-www\"");
        ensure!(
            !query(&format!("{rotations} >= 1"))?.is_empty(),
            "the listener's is not renewed"
        );
        ensure!(in_bundle("Renewed_CA")? != before, "the CA is not renewed");
        let client = &renewed.shop.object("secret", "renewed-client")?["data"]["tls.crt"];
        ensure!(*client != first, "the client's is not renewed");
        Ok(())
    })?;
    let stalled = |identity: &str, holder: &str, metric: &str| {
        let alert = format!(
            "ALERTS{{alertname=\"MtlsRotationStalled\", alertstate=\"firing\", identity={identity:?}, holder={holder:?}}}"
        );
        let labels = format!("layer=\"workload\", identity={identity:?}");
        let present = match holder {
            "own" => " and on (pod, secret, identity) mtls_own_certificate_present == 1",
            _ => "",
        };
        (alert, proxies(metric, &labels) + present)
    };
    let left = renewed.stopped(&[
        stalled(
            "www.example.com",
            "own",
            "mtls_own_certificate_not_after_timestamp_seconds",
        ),
        stalled(
            "renewed.example.com",
            "peer",
            "mtls_peer_certificate_not_after_timestamp_seconds",
        ),
    ])?;
    println!(
        "  told {:.0} s before the listener's end, {:.0} s before the client's",
        left[0], left[1]
    );
    ensure!(
        left.iter().all(|left| *left > 0.0),
        "told too late: {left:?}"
    );
    Ok(())
}

/// Beside the one that signs, so that its end ends nothing else.
fn of_the_clients_ca() -> Result<()> {
    let renewed = Renewed::start(&["renewed-ca", "ending-ca"])?;
    let before = eventually(DEADLINE, || in_bundle("Ending_CA"))?;
    renewed.in_health(|| {
        ensure!(in_bundle("Ending_CA")? != before, "the CA is not renewed");
        Ok(())
    })?;
    let ca = "identity=~\"Ending_CA:.*\"";
    let alert = format!(
        "ALERTS{{alertname=\"MtlsRootCaExpiring\", alertstate=\"firing\", severity=\"warning\", {ca}}}"
    );
    let not_after = proxies("mtls_own_certificate_not_after_timestamp_seconds", ca)
        + " and on (pod, secret, identity, certificate) mtls_own_certificate_present == 1";
    let left = renewed.stopped(&[(alert, not_after)])?;
    println!("  told {:.0} s before the CA's end", left[0]);
    ensure!(left[0] > 0.0, "told too late: {left:?}");
    Ok(())
}
