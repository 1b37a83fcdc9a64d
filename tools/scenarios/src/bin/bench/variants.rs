//! What is compared: one listener, with and without filters. The module's are those of the samples
//! that operators copy.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use testbed::sample::{Value, yaml};
use testbed::{Sample, module, workspace_root};

/// The end of every response. Envoy answers by itself: no upstream blurs the picture.
pub const BODY: &str = "\r\n\r\nhello";

const BARE_FILTER: &str = "target/wasm32-wasip1/release/bare_filter.wasm";
const EMPTY_FILTER: &str = "target/wasm32-wasip1/release/empty_filter.wasm";
const HTTP_WASM: &str = "envoy.filters.http.wasm";

/// What somebody would write who wants to count requests by what is left of the certificate.
const LUA: &str = r#"
function envoy_on_request(handle)
  local tls = handle:streamInfo():downstreamSslConnection()
  if tls == nil then
    return
  end
  local digest = tls:sha256PeerCertificateDigest()
  local left = tls:expirationPeerCertificate() - os.time()
  local status = "ok"
  if digest == "" then
    status = "no_certificate"
  elseif left < 0 then
    status = "expired"
  elseif left < 7 * 86400 then
    status = "critical"
  end
  handle:stats():counter(status):inc()
end
"#;

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// No filter but the router.
    None,
    /// A filter on the stock SDK that does nothing.
    Empty,
    /// The floor of what the module can cost as HTTP filter: its callbacks and host calls.
    HttpFloor,
    /// The module as HTTP filter.
    Http,
    /// The floor as network filter.
    NetworkFloor,
    /// The module as network filter.
    Network,
    /// Both.
    Both,
    /// No filter, with Envoy setting XFCC with the client's chain.
    XfccNone,
    /// The module as HTTP filter, reading that.
    Xfcc,
    /// A Lua filter.
    Lua,
    /// Another module as HTTP filter: the one that `BEFORE` names.
    Before,
}

impl Variant {
    const ALL: [Variant; 11] = [
        Variant::None,
        Variant::Empty,
        Variant::HttpFloor,
        Variant::Http,
        Variant::NetworkFloor,
        Variant::Network,
        Variant::Both,
        Variant::XfccNone,
        Variant::Xfcc,
        Variant::Lua,
        Variant::Before,
    ];

    /// What this run measures: with `VARIANTS=http,before` these and what they are compared with.
    pub fn chosen() -> Vec<Variant> {
        let named = env::var("VARIANTS").unwrap_or_default();
        let is_named = |variant: Variant| {
            named.is_empty() || named.split(',').any(|name| name == variant.key())
        };
        let all = Self::ALL.into_iter();
        all.filter(|variant| *variant != Self::Before || other_module().is_some())
            .filter(|variant| *variant == Self::None || is_named(*variant))
            .collect()
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "no filter",
            Self::Empty => "empty filter, stock SDK",
            Self::HttpFloor => "floor, HTTP",
            Self::Http => "mtls-watch, HTTP",
            Self::NetworkFloor => "floor, network",
            Self::Network => "mtls-watch, network",
            Self::Both => "mtls-watch, both",
            Self::XfccNone => "no filter, XFCC with chain",
            Self::Xfcc => "mtls-watch, HTTP, XFCC with chain",
            Self::Lua => "Lua: digest, expiry, counter",
            Self::Before => "mtls-watch 0.1, HTTP",
        }
    }

    /// The key in the JSON output.
    pub const fn key(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Empty => "empty",
            Self::HttpFloor => "http_floor",
            Self::Http => "http",
            Self::NetworkFloor => "network_floor",
            Self::Network => "network",
            Self::Both => "both",
            Self::XfccNone => "xfcc_none",
            Self::Xfcc => "xfcc",
            Self::Lua => "lua",
            Self::Before => "before",
        }
    }

    /// Whether it is a module that reads certificates.
    pub const fn is_module(self) -> bool {
        matches!(self, Self::Http | Self::Before | Self::Both | Self::Network)
    }

    /// What its added cost is added to.
    pub const fn base(self) -> Variant {
        match self {
            Self::Xfcc | Self::XfccNone => Self::XfccNone,
            _ => Self::None,
        }
    }

    /// The configuration, with the certificates in that directory.
    pub fn sample(self, certificates: &Path) -> Result<Sample> {
        let load = |file| Sample::local(file, certificates);
        let bare = |file| Sample::local_without_module(file, certificates);
        let sample = match self {
            Self::None => bare("http.yaml")?,
            Self::Empty => {
                replace_module(load("http.yaml")?, &workspace_root().join(EMPTY_FILTER))?
            }
            Self::Before => {
                let other = other_module().context("BEFORE names no module")?;
                replace_module(load("http.yaml")?, &other)?
            }
            Self::HttpFloor => {
                replace_module(load("http.yaml")?, &workspace_root().join(BARE_FILTER))?
            }
            Self::Http => load("http.yaml")?,
            Self::NetworkFloor => replace_module(
                network_only(load("both.yaml")?),
                &workspace_root().join(BARE_FILTER),
            )?,
            Self::Network => network_only(load("both.yaml")?),
            Self::Both => load("both.yaml")?,
            Self::XfccNone => bare("xfcc.yaml")?,
            Self::Xfcc => load("xfcc.yaml")?,
            Self::Lua => bare("http.yaml")?.edit(add_lua),
        };
        Ok(sample.edit(answer_directly))
    }
}

/// The module that `BEFORE` names, to compare this one with. `make bench` builds that of 0.1.
pub fn other_module() -> Option<PathBuf> {
    env::var_os("BEFORE").map(|path| workspace_root().join(path))
}

fn replace_module(sample: Sample, other: &Path) -> Result<Sample> {
    let ours = module::path()?.display().to_string();
    let other = other.display().to_string();
    Ok(sample.edit(|node| {
        if node.as_str() == Some(&ours) {
            *node = Value::String(other.clone());
        }
    }))
}

fn network_only(sample: Sample) -> Sample {
    sample.edit(|node| remove_filter(node, HTTP_WASM))
}

fn remove_filter(node: &mut Value, name: &str) {
    if let Value::Sequence(items) = node {
        items.retain(|item| item.get("name").and_then(Value::as_str) != Some(name));
    }
}

fn add_lua(node: &mut Value) {
    let filters = node.get_mut("http_filters");
    if let Some(Value::Sequence(filters)) = filters {
        let lua = json!({
            "name": "envoy.filters.http.lua",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                "default_source_code": { "inline_string": LUA },
            },
        });
        filters.insert(0, yaml(lua));
    }
}

fn answer_directly(node: &mut Value) {
    if let Value::Mapping(route) = node
        && route.contains_key("match")
        && route.remove("route").is_some()
    {
        let answer = json!({ "status": 200, "body": { "inline_string": BODY.trim_start() } });
        route.insert("direct_response".into(), yaml(answer));
    }
}
