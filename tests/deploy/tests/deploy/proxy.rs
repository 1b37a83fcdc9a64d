//! A real Envoy with what a manifest does to a proxy.

use anyhow::{Result, ensure};
use serde_json::Value as Json;
use tempfile::TempDir;
use testbed::client::Response;
use testbed::sample::{Value, yaml};
use testbed::{Client, Envoy, Hierarchy, Sample, Server};

/// The identity of the client.
pub const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";

/// A sample of `envoy-config` with an application behind it, and what a client needs to reach it.
pub struct Proxy {
    pub envoy: Envoy,
    cas: Hierarchy,
    _app: Server,
    _files: TempDir,
}

impl Proxy {
    /// Starts the sample once `change` has been applied to it.
    pub fn start(file: &str, change: impl FnOnce(Sample) -> Sample) -> Result<Self> {
        let cas = Hierarchy::new()?;
        let files = TempDir::new()?;
        let proxy = cas.leaf().uri("spiffe://cluster.local/ns/shop/sa/proxy");
        proxy.issue()?.write_to(files.path())?;
        cas.trust_bundle().write_to(files.path())?;
        let app = Server::http_echo(None)?;
        let sample = Sample::local(file, files.path())?.upstream("app", app.port());
        let envoy = change(sample).start(1)?;
        Ok(Self {
            envoy,
            cas,
            _app: app,
            _files: files,
        })
    }

    /// One request from [`PAY`], which must reach the application.
    pub fn get(&self) -> Result<Response> {
        self.get_as(&Client::mtls(&self.cas.leaf().uri(PAY).issue()?))
    }

    /// One request from this client, which must reach the application.
    pub fn get_as(&self, client: &Client) -> Result<Response> {
        let response = client.get(self.envoy.listener_port("inbound")?, "/", &[])?;
        ensure!(response.status == 200, "{}", response.text());
        Ok(response)
    }
}

/// EnvoyFilter's INSERT_FIRST for a network filter.
pub fn insert_first(sample: Sample, filter: &Json) -> Sample {
    let filter = yaml(filter.clone());
    sample.edit(|node| {
        if let Some(Value::Sequence(filters)) = node.get_mut("filters") {
            let others = std::mem::take(filters);
            filters.push(filter.clone());
            filters.extend(others);
        }
    })
}

/// EnvoyFilter's MERGE into the filter with the same type.
pub fn merge(sample: Sample, filter: &Json) -> Sample {
    let patch = yaml(filter["typed_config"].clone());
    sample.edit(|node| {
        if node
            .get("@type")
            .is_some_and(|name| Some(name) == patch.get("@type"))
        {
            merge_value(node, &patch);
        }
    })
}

fn merge_value(node: &mut Value, patch: &Value) {
    match (node, patch) {
        (Value::Mapping(node), Value::Mapping(patch)) => {
            for (key, value) in patch {
                merge_value(node.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (node, patch) => *node = patch.clone(),
    }
}
