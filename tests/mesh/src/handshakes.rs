//! What real handshakes between the proxies of a namespace say, to compare with what the gates of a rotation say.

use anyhow::{Context, Result, ensure};
use pki::Identity;

use crate::authority::Authority;
use crate::namespace::Namespace;
use crate::probe;

/// A handshake between every two workloads, each way: a call over TCP is a connection of its own.
///
/// # Errors
/// The first that fails.
pub fn every_pair(shop: &Namespace) -> Result<()> {
    let pods = shop.pods()?;
    for (from, address) in &pods {
        for (to, _) in pods.iter().filter(|(to, _)| to != from) {
            Namespace::call_from(address, &target(shop, to))
                .with_context(|| format!("{from} to {to}"))?;
        }
    }
    Ok(())
}

/// Where a workload is called over TCP.
#[must_use]
pub fn target(shop: &Namespace, workload: &str) -> String {
    format!("tcp://{workload}.{}:7000", shop.name)
}

/// Each proxy takes this leaf, which is no workload's.
///
/// # Errors
/// If one does not.
pub fn everybody_takes(shop: &Namespace, leaf: &Identity) -> Result<()> {
    for (name, address) in shop.pods()? {
        probe::hello(&address, leaf).with_context(|| format!("{name} refuses it"))?;
    }
    Ok(())
}

/// Each proxy shows a leaf of this CA.
///
/// # Errors
/// If one does not.
pub fn everybody_shows(shop: &Namespace, signer: &Authority) -> Result<()> {
    let leaf = signer.leaf(PROBE)?;
    for (pod, address) in shop.pods()? {
        let issuer = probe::issuer_of(&address, &leaf)?;
        ensure!(
            issuer.contains(signer.common_name()),
            "{pod} shows a leaf of {issuer}"
        );
    }
    Ok(())
}

/// Who the probe says that it is.
pub const PROBE: &str = "spiffe://cluster.local/ns/probe/sa/probe";
