//! Where the filter stands.

use anyhow::Result;
use testbed::Server;

use crate::setup::{CONNECTIONS, FAILURES, INSPECTIONS, Pki, Proxy, REQUESTS};
use crate::variants::Variant;

/// Among the filters of a cluster each retry would count, and no request would end: it says so, and watches
/// nothing. On a new connection with the server, and on one that is there.
#[test]
fn behind_the_router_nothing_is_watched() -> Result<()> {
    let pki = Pki::new()?;
    for file in ["http.yaml", "xfcc.yaml"] {
        let sample = pki.sample(file)?.mtls_to("app", &pki).behind_router();
        let server = Server::http_echo(Some(pki.server_tls()?))?;
        let proxy = Proxy::start(sample, ("inbound", "app"), server, 1)?;
        let mut connection = proxy.open(&pki.client()?)?;
        for _ in 0..3 {
            assert_eq!(connection.get("/", &[])?.status, 200, "{file}");
        }
        proxy.get(&pki.client()?)?;
        let stats = proxy.stats()?;
        for metric in [REQUESTS, CONNECTIONS, FAILURES, INSPECTIONS] {
            assert_eq!(stats.sum(metric, &[]), 0.0, "{file} {metric}");
        }
        let log = proxy.envoy.stop()?;
        let said = log.matches("among the HTTP filters of a cluster").count();
        assert_eq!(said, 1, "{file}: {log}");
    }
    Ok(())
}
