//! Whose certificate a refused handshake is about: with the hierarchy the proxy knows its own.

use anyhow::{Result, ensure};
use testbed::pki::Lifetime;
use testbed::{Ca, Client};

use crate::setup::{FAILURES, Pki};
use crate::sidecar::{polling, soon, start, trust, wait_for_polls, waiting_for};

/// An expired copy of the root stands before the valid one: it is the bundle of this proxy, and not the client, that
/// must be changed.
#[test]
fn an_expired_copy_of_a_root_is_this_proxy_s() -> Result<()> {
    let pki = Pki::new()?;
    let root = Ca::root("Twin Root")
        .lifetime(Lifetime::days(100))
        .issue()?;
    let expired = Ca::root("Twin Root").key(root.key());
    let expired = expired.lifetime(Lifetime::days(-3)).issue()?;
    trust(&pki, [&expired, &root])?;
    let proxy = start(polling(&pki)?, 1)?;
    wait_for_polls(&proxy.envoy, 2.0)?;
    let leaf = root.leaf().uri("spiffe://cluster.local/ns/shop/sa/pay");
    let client = Client::mtls(&leaf.issue()?);
    let refused = client.get(proxy.port, "/", &[]);
    ensure!(refused.is_err(), "Envoy takes the valid copy");
    soon(|| {
        let stats = proxy.stats()?;
        let labels = [
            ("direction", "inbound"),
            ("layer", "root_ca"),
            ("holder", "own"),
            ("reason", "expired"),
        ];
        let counted = stats.value(FAILURES, &labels);
        ensure!(counted >= Some(1.0), "{:?}", stats.series(FAILURES));
        let log = proxy.envoy.log();
        ensure!(log.contains("remove the expired copy"), "no hint");
        Ok(())
    })
}

/// Envoy does not tell which secret a connection waits for; its admin interface does.
#[test]
fn the_secret_that_was_never_supplied_is_named() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = start(waiting_for(&pki, "never")?, 1)?;
    wait_for_polls(&proxy.envoy, 2.0)?;
    let port = proxy.envoy.listener_port("inbound_tcp")?;
    ensure!(pki.client()?.tcp(port).is_err(), "it has no certificate");
    let labels = [("reason", "secret_missing"), ("holder", "own")];
    soon(|| {
        let stats = proxy.stats()?;
        ensure!(
            stats.sum(FAILURES, &labels) >= 1.0,
            "{:?}",
            stats.series(FAILURES)
        );
        Ok(())
    })?;
    let line = proxy.envoy.wait_for_log("handshake refused")?;
    ensure!(line.contains("waits for 'never'"), "{line}");
    Ok(())
}
