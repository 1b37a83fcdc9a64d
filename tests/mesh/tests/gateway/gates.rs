//! The gates of a rotation at a gateway: what it trusts for its backends says nothing of its clients.

use std::fs;

use anyhow::{Result, ensure};
use mesh_tests::gateway::shop::{HOST, Shop, config_map};
use mesh_tests::kubectl::apply;
use mesh_tests::probe::{Credentials, reply};
use mesh_tests::prometheus::wait_for;
use mesh_tests::rotation::Gates;
use mesh_tests::runner::{Scenario, holds};
use mesh_tests::{DEADLINE, eventually, scratch};
use pki::{Ca, ExtendedKeyUsage};

use crate::installed_for_connections;
use crate::page::proxies;

pub(crate) const SCENARIOS: &[Scenario] = &[holds(
    "gates::another_bundle_opens_none",
    another_bundle_opens_none,
)];

/// As the module names it.
fn name(common_name: &str, ca: &Ca) -> String {
    let identifier: String = ca.key_identifier().chars().take(8).collect();
    format!("{}:{identifier}", common_name.replace(' ', "_"))
}

/// The next root of the clients is in the bundle for backends alone, where Envoy refuses its clients; then in that of
/// clients.
fn another_bundle_opens_none() -> Result<()> {
    let shop = installed_for_connections()?;
    let next = Ca::root("Next Client Root").issue()?;
    let signer = next.subordinate("Next Issuing CA").issue()?;
    let leaf = signer.leaf().dns("next.example.com");
    let leaf = leaf
        .extended_key_usages(&[ExtendedKeyUsage::ClientAuth])
        .issue()?;
    let client = Credentials::of(&leaf)?;
    let added = name("Next Client Root", &next);
    let trusts = |secret: &str| {
        let labels = format!("secret={secret:?}, ca={added:?}");
        wait_for(&(proxies("mtls_trust_bundle_ca", &labels) + " == 1")).map(drop)
    };
    let both = |one: &Ca| one.pem() + &next.pem();
    apply(&config_map("backend-ca", &both(&shop.backend_root)).to_string())?;
    trusts("secure/shop-ca")?;
    let refused = reply(&shop.address()?, HOST, "/", Some(&client));
    ensure!(refused.is_err(), "a bundle for backends lets clients in");
    let gates = ask(shop, &next, &signer)?;
    ensure!(
        !gates.is_open(1),
        "gate 1 is open by the bundle for backends: {}",
        gates.report
    );

    apply(&config_map("client-ca", &both(&shop.client_root)).to_string())?;
    trusts("shop/clients/ca.crt")?;
    eventually(DEADLINE, || {
        let gates = ask(shop, &next, &signer)?;
        ensure!(gates.is_open(1), "gate 1 is shut: {}", gates.because(1));
        Ok(())
    })?;
    shop.get("/", &client)?;
    // Back, to the end of what others see.
    shop.apply()?;
    eventually(DEADLINE, || {
        ensure!(
            reply(&shop.address()?, HOST, "/", Some(&client)).is_err(),
            "it is trusted still"
        );
        Ok(())
    })
}

fn ask(shop: &Shop, next: &Ca, signer: &Ca) -> Result<Gates> {
    let folder = scratch("gates");
    fs::create_dir_all(&folder)?;
    let file = folder.join("cas.pem");
    let all = [&shop.client_root, &shop.client_ca, next, signer];
    fs::write(&file, all.map(Ca::pem).concat())?;
    let pod = shop.pod()?;
    let address = pod["status"]["podIP"].as_str().unwrap_or_default();
    let arguments = [
        "--recent",
        "15s",
        "--old",
        &name("Client Root", &shop.client_root),
        "--new",
        &name("Next Client Root", next),
        "--cas",
        &file.display().to_string(),
    ];
    Gates::ask(
        &arguments.map(str::to_owned),
        [format!("ingress=http://{address}:19001")],
    )
}
