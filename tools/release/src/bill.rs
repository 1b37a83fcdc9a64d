//! The bill of materials: CycloneDX 1.5, as JSON.

use cargo_metadata::Package;
use serde_json::{Value, json};

use crate::contents::Contents;

/// The bill of the module whose SHA-256 this is. No serial number and no time: the same module has
/// the same bill.
pub(crate) fn of(contents: &Contents, sha256: &str) -> Value {
    let mut module = component(&contents.module, "application");
    module["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
    let crates = contents
        .crates
        .iter()
        .map(|package| component(package, "library"));
    let components: Vec<Value> = crates.chain([standard_library(contents)]).collect();
    let mut bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": module},
        "components": components,
    });
    bill.sort_all_objects();
    bill
}

fn component(package: &Package, kind: &str) -> Value {
    let purl = format!("pkg:cargo/{}@{}", package.name, package.version);
    let mut component = json!({
        "type": kind,
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
    });
    if let Some(license) = &package.license {
        // The old way of writing a choice.
        let expression = license.replace('/', " OR ");
        component["licenses"] = json!([{"expression": expression}]);
    }
    component
}

/// Not a crate of the registry, but linked like one.
fn standard_library(contents: &Contents) -> Value {
    let version = &contents.toolchain.version;
    let purl = format!("pkg:generic/rust-std@{version}");
    json!({
        "type": "library",
        "bom-ref": purl,
        "name": "rust-std",
        "version": version,
        "purl": purl,
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    })
}
