//! The ways by which the module's filters come to a running Envoy, and are replaced in it.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use testbed::sample::{Value, yaml};
use testbed::{Sample, Stats};

/// Either with their listeners, or each on its own.
#[derive(Clone, Copy, Debug)]
pub enum Delivery {
    Lds,
    Ecds,
}

/// Kinds of filters, which are their names over ECDS, too.
const KINDS: [&str; 2] = ["http", "network"];

impl Delivery {
    /// The sample for an Envoy that takes them from files of this directory.
    pub fn watching(self, directory: &Path, sample: Sample) -> Sample {
        match self {
            Self::Lds => sample.listeners_from(&directory.join("listeners.yaml")),
            Self::Ecds => sample
                .edit(|node| {
                    if let Some(kind) = kind(node) {
                        *node = discovered(kind, directory);
                    }
                })
                .with_node(),
        }
    }

    /// Writes them as they are in this sample.
    pub fn deliver(self, directory: &Path, sample: &Sample) -> Result<()> {
        match self {
            Self::Lds => replace(&directory.join("listeners.yaml"), &sample.listeners()?),
            Self::Ecds => {
                let mut written = Ok(());
                sample.clone().edit(|node| {
                    if let Some(kind) = kind(node)
                        && written.is_ok()
                    {
                        let path = directory.join(kind).with_extension("yaml");
                        written = resource(kind, node).and_then(|it| replace(&path, &it));
                    }
                });
                written
            }
        }
    }

    /// How many updates Envoy has taken, and how many it has refused.
    pub fn updates(self, stats: &Stats) -> (f64, f64) {
        let sum = |prefix: &str, end: &str| {
            let series = stats.with_prefix(prefix).into_iter();
            let of_end = series.filter(|series| series.name.ends_with(end));
            of_end.map(|series| series.value).sum()
        };
        match self {
            Self::Lds => {
                let lds = "envoy_listener_manager_lds_update";
                (sum(lds, "_success"), sum(lds, "_rejected"))
            }
            Self::Ecds => {
                let ecds = "envoy_extension_config_discovery";
                (sum(ecds, "config_reload"), sum(ecds, "config_fail"))
            }
        }
    }
}

/// The kind of a filter of the module; `None` for any other node.
fn kind(node: &Value) -> Option<&'static str> {
    let name = node.get("name")?.as_str()?;
    KINDS
        .into_iter()
        .find(|kind| name == format!("envoy.filters.{kind}.wasm"))
}

fn discovered(kind: &str, directory: &Path) -> Value {
    let path = directory.join(kind).with_extension("yaml");
    yaml(json!({
        "name": kind,
        "config_discovery": {
            "config_source": { "path_config_source": { "path": path }, "resource_api_version": "V3" },
            "type_urls": [format!("type.googleapis.com/envoy.extensions.filters.{kind}.wasm.v3.Wasm")],
        },
    }))
}

/// A filter as a resource of ECDS, in a file.
fn resource(kind: &str, filter: &Value) -> Result<String> {
    let mut resource = yaml(json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": kind,
    }));
    resource["typed_config"] = filter["typed_config"].clone();
    let mut file = yaml(json!({}));
    file["resources"] = vec![resource].into();
    Ok(serde_yaml_ng::to_string(&file)?)
}

/// Envoy sees a file that is moved to this place.
fn replace(path: &Path, content: &str) -> Result<()> {
    let partial = path.with_extension("new");
    fs::write(&partial, content)?;
    Ok(fs::rename(&partial, path)?)
}
