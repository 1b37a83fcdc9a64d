//! A Gateway as a user has it before the module comes: it verifies its clients, and speaks mTLS to one of two backends.

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use pki::{Ca, ExtendedKeyUsage, HOUR, Identity, Lifetime};
use serde_json::{Value, json};

use crate::kubectl::{apply, get, kubectl};
use crate::namespace::{Namespace, Workload};
use crate::probe::{Credentials, reply};
use crate::prometheus::http_get;
use crate::{DEADLINE, eventually};

/// The name of the Gateway in the samples.
pub const GATEWAY: &str = "ingress";
/// Whom clients ask for.
pub const HOST: &str = "www.example.com";
/// Where Envoy Gateway and its proxies are.
pub const SYSTEM: &str = "envoy-gateway-system";

/// The namespace `shop` with all that is in it.
#[derive(Debug)]
pub struct Shop {
    /// The CA above the one that signs clients.
    pub client_root: Ca,
    /// What signs clients.
    pub client_ca: Ca,
    /// What signs the backend, and the gateway's leaf for it.
    pub backend_root: Ca,
    namespace: Namespace,
    public: Identity,
    address: OnceLock<String>,
}

impl Shop {
    /// Starts all of it.
    ///
    /// # Errors
    /// If the Gateway does not come up.
    pub fn start() -> Result<Self> {
        let client_root = Ca::root("Client Root").issue()?;
        let shop = Self {
            client_ca: client_root.subordinate("Client Issuing CA").issue()?,
            client_root,
            backend_root: Ca::root("Backend Root").issue()?,
            namespace: Namespace::outside("shop")?,
            address: OnceLock::new(),
            public: Ca::root("Public Root").issue()?.leaf().dns(HOST).issue()?,
        };
        shop.apply()?;
        shop.namespace.start(&[Workload {
            name: "app",
            ..Workload::default()
        }])?;
        eventually(DEADLINE, || shop.get("/secure", &shop.partner()?).map(drop))?;
        Ok(shop)
    }

    /// All objects as they were at first.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub fn apply(&self) -> Result<()> {
        let secure = self
            .backend_root
            .leaf()
            .dns("secure.shop.svc.cluster.local");
        let client = self
            .backend_root
            .leaf()
            .uri("spiffe://shop.example/gateway");
        let secrets = [
            tls_secret("www", &self.public, None)?,
            tls_secret("gateway-client", &client.issue()?, None)?,
            tls_secret("secure-server", &secure.issue()?, Some(&self.backend_root))?,
            config_map("client-ca", &self.client_root.pem()),
            config_map("backend-ca", &self.backend_root.pem()),
        ];
        for secret in secrets {
            apply(&secret.to_string())?;
        }
        apply(include_str!("shop.yaml"))
    }

    /// Who connects in most scenarios, with its CA beside it.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn partner(&self) -> Result<Credentials> {
        Credentials::of(&self.client("partner.example.com").issue()?)
    }

    /// A client's leaf, to be changed.
    #[must_use]
    pub fn client(&self, name: &str) -> pki::LeafBuilder {
        let leaf = self.client_ca.leaf().dns(name);
        leaf.extended_key_usages(&[ExtendedKeyUsage::ClientAuth])
    }

    /// A client that has been expired for an hour.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn expired(&self) -> Result<Credentials> {
        let lifetime = Lifetime::from_now(-48 * HOUR, -HOUR);
        Credentials::of(
            &self
                .client("expired.example.com")
                .lifetime(lifetime)
                .issue()?,
        )
    }

    /// The body of a reply with 200 to this client.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, path: &str, shown: &Credentials) -> Result<String> {
        let reply = self.reply(path, shown)?;
        let (_, body) = reply.split_once("\r\n\r\n").context("no body")?;
        Ok(body.to_owned())
    }

    /// A reply with 200 to this client, with its headers.
    ///
    /// # Errors
    /// If there is none.
    pub fn reply(&self, path: &str, shown: &Credentials) -> Result<String> {
        let reply = reply(&self.address()?, HOST, path, Some(shown))?;
        let status = reply.lines().next().unwrap_or_default();
        ensure!(status == "HTTP/1.1 200 OK", "{path}: {status}");
        Ok(reply)
    }

    /// Where clients reach the Gateway. A Gateway that is no longer accepted does not say so any more, and is there.
    ///
    /// # Errors
    /// If it has no address yet.
    pub fn address(&self) -> Result<String> {
        if let Some(address) = self.address.get() {
            return Ok(address.clone());
        }
        let gateway = self.object("gateway", GATEWAY)?;
        let address = gateway["status"]["addresses"][0]["value"].as_str();
        let address = format!("{}:443", address.context("the Gateway has no address")?);
        Ok(self.address.get_or_init(|| address).clone())
    }

    /// An object of this namespace.
    ///
    /// # Errors
    /// If there is none.
    pub fn object(&self, kind: &str, name: &str) -> Result<Value> {
        get(&[kind, name, "--namespace", &self.namespace.name])
    }

    /// `kubectl` in this namespace.
    ///
    /// # Errors
    /// If it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl(&[&["--namespace", &self.namespace.name][..], arguments].concat())
    }

    /// Changes an object by a merge patch.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub fn patch(&self, kind: &str, name: &str, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        self.kubectl(&["patch", kind, name, "--type", "merge", "--patch", &patch])
            .map(drop)
    }

    /// The reason of a condition of a policy, for the first thing that it is attached to.
    ///
    /// # Errors
    /// If it has no such condition.
    pub fn condition(&self, kind: &str, name: &str, condition: &str) -> Result<(String, String)> {
        let object = self.object(kind, name)?;
        let found = match kind {
            "gateway" => object["status"]["conditions"].as_array(),
            _ => object["status"]["ancestors"][0]["conditions"].as_array(),
        };
        let found = found
            .into_iter()
            .flatten()
            .find(|it| it["type"] == condition);
        let found = found
            .with_context(|| format!("{kind} {name} has no {condition}: {}", object["status"]))?;
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Ok((text("status"), text("reason")))
    }

    /// The Gateway's proxy: its newest pod that runs.
    ///
    /// # Errors
    /// If there is none.
    pub fn pod(&self) -> Result<Value> {
        let selector = format!("gateway.envoyproxy.io/owning-gateway-name={GATEWAY}");
        let pods = get(&["pods", "--namespace", SYSTEM, "--selector", &selector])?;
        let pods = pods["items"].as_array().context("no pods")?;
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let mut conditions = conditions.filter(|it| it["type"] == "Ready");
            pod["metadata"]["deletionTimestamp"].is_null()
                && conditions.all(|it| it["status"] == "True")
        };
        let created = |pod: &&Value| {
            pod["metadata"]["creationTimestamp"]
                .as_str()
                .unwrap_or("")
                .to_owned()
        };
        let newest = pods.iter().filter(ready).max_by_key(created);
        newest.cloned().context("no proxy is ready")
    }

    /// What the proxy says to Prometheus.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn stats(&self) -> Result<String> {
        let pod = self.pod()?;
        let address = pod["status"]["podIP"].as_str().context("no address")?;
        http_get(&format!("http://{address}:19001/stats/prometheus"))
    }

    /// What the proxy has logged of the module.
    ///
    /// # Errors
    /// If there is no such pod.
    pub fn module_log(&self) -> Result<String> {
        let pod = self.pod()?;
        let name = pod["metadata"]["name"].as_str().context("no name")?;
        let log = kubectl(&["logs", name, "--namespace", SYSTEM, "--container", "envoy"])?;
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("mtls-watch"))
            .collect();
        Ok(lines.join("\n"))
    }

    /// The image of the proxy, and the type of its Service: what the operator has set.
    ///
    /// # Errors
    /// If one of them is not there.
    pub fn operators_choice(&self) -> Result<(String, String)> {
        let pod = self.pod()?;
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let envoy = containers
            .clone()
            .find(|it| it["name"] == "envoy")
            .context("no Envoy")?;
        let selector = format!("gateway.envoyproxy.io/owning-gateway-name={GATEWAY}");
        let services = get(&["services", "--namespace", SYSTEM, "--selector", &selector])?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok((
            text(&envoy["image"]),
            text(&services["items"][0]["spec"]["type"]),
        ))
    }
}

fn tls_secret(name: &str, identity: &Identity, root: Option<&Ca>) -> Result<Value> {
    let mut data = json!({"tls.crt": identity.chain_pem(), "tls.key": identity.key_pem()?});
    if let Some(root) = root {
        data["ca.crt"] = json!(root.pem());
    }
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": "shop"}, "stringData": data,
    }))
}

/// A bundle, as policies refer to it.
#[must_use]
pub fn config_map(name: &str, pem: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "shop"}, "data": {"ca.crt": pem},
    })
}
