//! The samples of `envoy-config/`, with what an operator would edit set for this machine. Tests
//! and demo thereby run the very files that operators copy.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Mapping;

use crate::envoy::free_port;
use crate::{Envoy, module, workspace_root};

pub use serde_yaml_ng::Value;

const MODULE: &str = "/etc/mtls-watch/mtls_watch.wasm";
const CERTIFICATES: &str = "/etc/certs";
/// The files that `sidecar.yaml` takes its secrets from.
const SECRETS: [&str; 2] = ["secret-default.yaml", "secret-rootca.yaml"];
const ADMIN_CLUSTER: &str = "prometheus_stats";

/// A sample in the making.
#[derive(Clone, Debug)]
pub struct Sample {
    root: Value,
}

impl Sample {
    /// Loads `envoy-config/<file>` as it is.
    ///
    /// # Errors
    /// If there is no such file, or it is not YAML.
    pub fn load(file: &str) -> Result<Self> {
        let path = workspace_root().join("envoy-config").join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let root = serde_yaml_ng::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(Self { root })
    }

    /// Loads `envoy-config/<file>` for this machine: with the module that was built here, with
    /// `tls.crt`, `tls.key` and `ca.crt` of `certificates`, with a free admin port and all
    /// listeners on ports that the system chooses ([`Envoy::listener_port`] tells). The upstream
    /// ports are left to [`Sample::upstream`].
    ///
    /// # Errors
    /// As [`Sample::load`], if the module has not been built, or the secrets that go with the
    /// samples cannot be written to `certificates`.
    pub fn local(file: &str, certificates: &Path) -> Result<Self> {
        let sample = Self::load(file)?.module(&module::path()?);
        sample.on_this_machine(certificates)
    }

    /// As [`Sample::local`], without the module's filters.
    ///
    /// # Errors
    /// As [`Sample::local`]; the module need not have been built.
    pub fn local_without_module(file: &str, certificates: &Path) -> Result<Self> {
        let sample = Self::load(file)?.without_module();
        sample.on_this_machine(certificates)
    }

    fn on_this_machine(self, certificates: &Path) -> Result<Self> {
        for file in SECRETS {
            let secret = Self::load(file)?.certificates(certificates);
            fs::write(certificates.join(file), secret.yaml()?)?;
        }
        let sample = self
            .certificates(certificates)
            .admin_port(free_port()?)
            .any_listener_ports();
        Ok(sample.scraped_at_once())
    }

    /// The path of the module, in the place of that in the file or of the one that was built.
    pub fn module(self, path: &Path) -> Self {
        let path = path.display().to_string();
        let built =
            module::path().map_or_else(|_| MODULE.to_owned(), |it| it.display().to_string());
        self.edit_strings(|text| text.replace(MODULE, &path).replace(&built, &path))
    }

    /// The directory that holds `tls.crt`, `tls.key`, `ca.crt` and, for the samples with named
    /// secrets, `secret-*.yaml`.
    pub fn certificates(self, directory: &Path) -> Self {
        let directory = directory.display().to_string();
        self.edit_strings(|text| text.replace(CERTIFICATES, &directory))
    }

    /// The port of the admin interface, and of the cluster that leads to it.
    pub fn admin_port(mut self, port: u16) -> Self {
        set_local_port(&mut self.root["admin"], port);
        self.upstream(ADMIN_CLUSTER, port)
    }

    /// The port of the listener of this name, on 127.0.0.1. No effect if there is none.
    pub fn listen(mut self, listener: &str, port: u16) -> Self {
        self.edit_named("listeners", listener, |node| {
            set_local_port(&mut node["address"], port);
        });
        self
    }

    /// Where the cluster of this name leads to: a port of 127.0.0.1. No effect if there is none.
    pub fn upstream(mut self, cluster: &str, port: u16) -> Self {
        self.edit_named("clusters", cluster, |node| {
            set_local_port(&mut node["load_assignment"], port);
        });
        self
    }

    /// The plugin configuration (JSON) of every filter of the module.
    pub fn configuration(self, text: &str) -> Self {
        let configuration = yaml(json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": text,
        }));
        self.edit_mappings(|node| {
            if node.contains_key("vm_config") {
                node.insert("configuration".into(), configuration.clone());
            }
        })
    }

    /// Writes a line in this format to `path` for every request and TCP connection.
    pub fn access_log(self, path: &Path, format: &str) -> Self {
        let log = json!([{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": path.display().to_string(),
                "log_format": { "text_format_source": { "inline_string": format!("{format}\n") } },
            },
        }]);
        self.set("HttpConnectionManager", "access_log", log.clone())
            .set("TcpProxy", "access_log", log)
    }

    /// Sets `key` in every message of this type: `set("HttpConnectionManager",
    /// "forward_client_cert_details", "FORWARD_ONLY")`.
    pub fn set(self, message: &str, key: &str, value: impl Into<Json>) -> Self {
        let value = yaml(value.into());
        self.edit_mappings(|node| {
            let full_name = node.get("@type").and_then(Value::as_str);
            if full_name.and_then(|name| name.rsplit('.').next()) == Some(message) {
                node.insert(key.into(), value.clone());
            }
        })
    }

    /// Gives every occurrence of the key `key` this value: `replace("traffic_direction",
    /// "UNSPECIFIED")`. No effect where the key is absent.
    pub fn replace(self, key: &str, value: impl Into<Json>) -> Self {
        let value = yaml(value.into());
        self.edit_mappings(|node| {
            if let Some(old) = node.get_mut(key) {
                *old = value.clone();
            }
        })
    }

    /// Sets `key` within every mapping that `parent` is the key of: `insert("common_tls_context",
    /// "tls_params", json!({"tls_minimum_protocol_version": "TLSv1_3"}))`.
    pub fn insert(self, parent: &str, key: &str, value: impl Into<Json>) -> Self {
        let value = yaml(value.into());
        self.edit_mappings(|node| {
            if let Some(Value::Mapping(parent)) = node.get_mut(parent) {
                parent.insert(key.into(), value.clone());
            }
        })
    }

    /// Sets `key` in every cluster: `set_in_clusters("connect_timeout", "0.2s")`.
    pub fn set_in_clusters(mut self, key: &str, value: impl Into<Json>) -> Self {
        let value = yaml(value.into());
        let clusters = self.root["static_resources"]["clusters"].as_sequence_mut();
        for cluster in clusters.into_iter().flatten() {
            cluster[key] = value.clone();
        }
        self
    }

    /// Has a filter in front of all others write a filter state object at this moment of a
    /// connection: `filter_state("on_new_connection", "io.istio.peer_principal", "spiffe://…")`.
    pub fn filter_state(self, moment: &str, key: &str, value: &str) -> Self {
        let filter = yaml(json!({
            "name": "envoy.filters.network.set_filter_state",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
                moment: [{
                    "object_key": key,
                    "factory_key": "envoy.string",
                    "format_string": { "text_format_source": { "inline_string": value } },
                }],
            },
        }));
        self.edit(|node| {
            let filters = node.get_mut("filters").and_then(Value::as_sequence_mut);
            if let Some(filters) = filters {
                filters.insert(0, filter.clone());
            }
        })
    }

    /// Has requests say how fast their response's body comes, in KiB a second, by the header
    /// `x-envoy-fault-throughput-response`.
    pub fn with_slow_bodies(self) -> Self {
        let fault = yaml(json!({
            "name": "envoy.filters.http.fault",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
                "response_rate_limit": { "header_limit": {}, "percentage": { "numerator": 100 } },
            },
        }));
        self.edit(|node| {
            let filters = node
                .get_mut("http_filters")
                .and_then(Value::as_sequence_mut);
            if let Some(filters) = filters {
                let router = filters.len().saturating_sub(1);
                filters.insert(router, fault.clone());
            }
        })
    }

    /// A second endpoint of the cluster of this name, on this port; requests go to both in turn.
    pub fn another_endpoint(mut self, cluster: &str, port: u16) -> Self {
        self.edit_named("clusters", cluster, |node| {
            let endpoints = &mut node["load_assignment"]["endpoints"][0]["lb_endpoints"];
            let mut endpoint = endpoints[0].clone();
            set_local_port(&mut endpoint, port);
            if let Some(endpoints) = endpoints.as_sequence_mut() {
                endpoints.push(endpoint);
            }
        });
        self
    }

    /// Takes TLS away from the listener of this name. No effect if there is none.
    pub fn plaintext(mut self, listener: &str) -> Self {
        self.edit_named("listeners", listener, |node| {
            walk(node, &mut |node| {
                if let Value::Mapping(mapping) = node {
                    mapping.remove("transport_socket");
                }
            });
        });
        self
    }

    /// Has a listener filter look at the first bytes of each connection, whether they are TLS.
    pub fn inspecting_tls(mut self) -> Self {
        let inspector = yaml(json!([{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            },
        }]));
        let listeners = self.root["static_resources"]["listeners"].as_sequence_mut();
        for listener in listeners.into_iter().flatten() {
            listener["listener_filters"] = inspector.clone();
        }
        self
    }

    /// Has the listener of this name take TLS only, as a strict one of Istio: what is no TLS meets no filter chain.
    /// Its statistics have the name and the label of Istio's. With [`Sample::inspecting_tls`].
    pub fn strict(mut self, listener: &str) -> Self {
        // Of Istio's bootstrap. Envoy's own tag is called `envoy.listener_address`.
        let address = yaml(json!({
            "tag_name": "listener_address",
            "regex": r"^listener\.(([_.[:digit:]]*)\.)",
        }));
        if let Some(tags) = self.root["stats_config"]["stats_tags"].as_sequence_mut() {
            tags.push(address);
        }
        self.edit_named("listeners", listener, |node| {
            node["stat_prefix"] = "0.0.0.0_15006".into();
            for chain in node["filter_chains"]
                .as_sequence_mut()
                .into_iter()
                .flatten()
            {
                chain["filter_chain_match"] = yaml(json!({ "transport_protocol": "tls" }));
            }
        });
        self
    }

    /// Has the listener of this name take plaintext beside TLS, as a permissive one of Istio: in a filter chain of its
    /// own, which a listener filter chooses.
    pub fn permissive(self, listener: &str) -> Self {
        let mut sample = self.inspecting_tls();
        sample.edit_named("listeners", listener, |node| {
            let Some(chains) = node["filter_chains"].as_sequence_mut() else {
                return;
            };
            let mut plaintext = chains.clone();
            for chain in chains.iter_mut() {
                chain["filter_chain_match"] = yaml(json!({ "transport_protocol": "tls" }));
            }
            for chain in &mut plaintext {
                chain["filter_chain_match"] = yaml(json!({ "transport_protocol": "raw_buffer" }));
                if let Value::Mapping(chain) = chain {
                    chain.remove("transport_socket");
                }
            }
            chains.extend(plaintext);
        });
        sample
    }

    /// Has an authorization filter in front of all others refuse whoever comes without TLS, as a policy does that
    /// wants to see an identity. After [`Sample::permissive`].
    pub fn refusing_plaintext(mut self, listener: &str) -> Self {
        let nobody = yaml(json!({
            "name": "envoy.filters.network.rbac",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
                "stat_prefix": "plaintext",
                "rules": { "action": "ALLOW", "policies": {} },
            },
        }));
        self.edit_named("listeners", listener, |node| {
            let chains = node["filter_chains"].as_sequence_mut();
            for chain in chains.into_iter().flatten() {
                let is_plaintext = chain.get("transport_socket").is_none();
                if let (true, Some(filters)) = (is_plaintext, chain["filters"].as_sequence_mut()) {
                    filters.insert(0, nobody.clone());
                }
            }
        });
        self
    }

    /// A second plugin of the module behind each, of another name: in the same VM, or in one of this id.
    pub fn beside_another(self, vm_id: Option<&str>) -> Self {
        let is_ours = |filter: &Value| filter["typed_config"]["config"]["vm_config"].is_mapping();
        self.edit(|node| {
            let Some(filters) = node.as_sequence_mut() else {
                return;
            };
            let Some(place) = filters.iter().position(is_ours) else {
                return;
            };
            let mut another = filters[place].clone();
            let plugin = &mut another["typed_config"]["config"];
            plugin["name"] = "another".into();
            plugin["root_id"] = "another".into();
            if let Some(vm_id) = vm_id {
                plugin["vm_config"]["vm_id"] = vm_id.into();
            }
            filters.insert(place + 1, another);
        })
    }

    /// Removes every occurrence of the key `key`.
    pub fn remove(self, key: &str) -> Self {
        self.edit_mappings(|node| {
            node.remove(key);
        })
    }

    /// The listeners alone, as the content of a file for [`Sample::listeners_from`].
    ///
    /// # Errors
    /// If an edit has left something that YAML cannot express.
    pub fn listeners(&self) -> Result<String> {
        let mut listeners = self.root["static_resources"]["listeners"].clone();
        for listener in listeners.as_sequence_mut().into_iter().flatten() {
            listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
        }
        let mut file = Mapping::new();
        file.insert("resources".into(), listeners);
        Ok(serde_yaml_ng::to_string(&file)?)
    }

    /// Takes the listeners from this file instead, also when another one is moved in its place.
    pub fn listeners_from(mut self, path: &Path) -> Self {
        self.root["dynamic_resources"]["lds_config"] = yaml(json!({
            "path_config_source": { "path": path.display().to_string() },
        }));
        self.root["static_resources"]["listeners"] = yaml(json!([]));
        self.with_node()
    }

    /// Gives the Envoy a name, which it asks for before it takes anything from elsewhere.
    pub fn with_node(mut self) -> Self {
        self.root["node"] = yaml(json!({ "id": "sidecar", "cluster": "mesh" }));
        self
    }

    /// Removes the module's filters.
    pub fn without_module(self) -> Self {
        self.edit(|node| {
            if let Value::Sequence(items) = node {
                items.retain(|item| !is_module_filter(item));
            }
        })
    }

    /// Adds copies of the listeners and clusters of these names, under their names with `suffix`;
    /// the copies lead to each other as the originals do. One more service of the same kind.
    pub fn with_copies(mut self, names: &[&str], suffix: &str) -> Self {
        for list in ["listeners", "clusters"] {
            if let Some(items) = self.root["static_resources"][list].as_sequence_mut() {
                let originals = items.iter().filter(|item| is_named(item, names));
                let copies: Vec<Value> = originals.cloned().collect();
                items.extend(copies.into_iter().map(|copy| renamed(copy, names, suffix)));
            }
        }
        self
    }

    /// Calls `change` with every node of the configuration, parents before children: for what
    /// the other methods cannot do.
    pub fn edit(mut self, mut change: impl FnMut(&mut Value)) -> Self {
        walk(&mut self.root, &mut change);
        self
    }

    /// The configuration as YAML.
    ///
    /// # Errors
    /// If an edit has left something that YAML cannot express.
    pub fn yaml(&self) -> Result<String> {
        Ok(serde_yaml_ng::to_string(&self.root)?)
    }

    /// Starts an Envoy with it.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start(&self, concurrency: u32) -> Result<Envoy> {
        Envoy::start(&self.yaml()?, concurrency)
    }

    fn any_listener_ports(mut self) -> Self {
        let listeners = &mut self.root["static_resources"]["listeners"];
        for listener in listeners.as_sequence_mut().into_iter().flatten() {
            set_local_port(&mut listener["address"], 0);
        }
        self
    }

    /// Without this, a scrape shows histograms only up to the last flush, every five seconds.
    fn scraped_at_once(mut self) -> Self {
        self.root["stats_flush_on_admin"] = Value::Bool(true);
        self
    }

    fn edit_named(&mut self, list: &str, name: &str, mut change: impl FnMut(&mut Value)) {
        let items = self.root["static_resources"][list].as_sequence_mut();
        let named = items
            .into_iter()
            .flatten()
            .filter(|item| item["name"] == name);
        named.for_each(&mut change);
    }

    fn edit_mappings(self, mut change: impl FnMut(&mut Mapping)) -> Self {
        self.edit(|node| {
            if let Value::Mapping(mapping) = node {
                change(mapping);
            }
        })
    }

    fn edit_strings(self, change: impl Fn(&str) -> String) -> Self {
        self.edit(|node| {
            if let Value::String(text) = node {
                *text = change(text);
            }
        })
    }
}

/// A piece of configuration, for [`Sample::edit`].
pub fn yaml(json: Json) -> Value {
    serde_yaml_ng::to_value(json).expect("all JSON is YAML")
}

fn set_local_port(node: &mut Value, port: u16) {
    walk(node, &mut |node| {
        if let Value::Mapping(mapping) = node
            && mapping.contains_key("port_value")
        {
            mapping.insert("address".into(), "127.0.0.1".into());
            mapping.insert("port_value".into(), port.into());
        }
    });
}

fn is_module_filter(item: &Value) -> bool {
    let name = item.get("name").and_then(Value::as_str);
    matches!(
        name,
        Some("envoy.filters.http.wasm" | "envoy.filters.network.wasm")
    )
}

fn is_named(item: &Value, names: &[&str]) -> bool {
    let name = item.get("name").and_then(Value::as_str);
    name.is_some_and(|name| names.contains(&name))
}

fn renamed(mut item: Value, names: &[&str], suffix: &str) -> Value {
    walk(&mut item, &mut |node| {
        if let Value::String(text) = node
            && names.contains(&text.as_str())
        {
            text.push_str(suffix);
        }
    });
    item
}

fn walk(node: &mut Value, change: &mut impl FnMut(&mut Value)) {
    change(node);
    match node {
        Value::Mapping(mapping) => mapping.values_mut().for_each(|child| walk(child, change)),
        Value::Sequence(items) => items.iter_mut().for_each(|child| walk(child, change)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_lead_to_each_other() -> Result<()> {
        let sample = Sample::load("sidecar.yaml")?;
        let names = ["outbound_http", "peer_http"];
        let yaml = sample.with_copies(&names, "-db").yaml()?;
        assert_eq!(yaml.matches("name: outbound_http-db").count(), 1);
        assert_eq!(yaml.matches("cluster: peer_http-db").count(), 1);
        assert_eq!(yaml.matches("cluster: peer_http\n").count(), 1);
        Ok(())
    }
}
