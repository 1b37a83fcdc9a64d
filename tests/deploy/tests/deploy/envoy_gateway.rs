//! envoy-config/envoy-gateway.

use anyhow::{Context, Result};
use mtls_watch_core::config::Config;

use crate::kustomize::render;
use crate::schema::{check, kind};

#[test]
fn is_what_envoy_gateway_and_the_module_read() -> Result<()> {
    let objects = render("envoy-gateway")?;
    let kinds: Vec<&str> = objects.iter().map(kind).collect();
    assert_eq!(
        kinds,
        ["ClientTrafficPolicy", "EnvoyExtensionPolicy", "EnvoyProxy"]
    );
    for object in &objects {
        check(object)?;
    }
    let policy = objects
        .iter()
        .find(|object| kind(object) == "EnvoyExtensionPolicy");
    let wasm = &policy.context("no policy")?["spec"]["wasm"][0];
    assert_eq!(wasm["failOpen"], true);
    Config::parse(wasm["config"].to_string().as_bytes())?;
    Ok(())
}
