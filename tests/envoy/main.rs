//! The module in a real Envoy, with real handshakes, as seen in `/stats/prometheus`.

use tempfile::TempDir;
use testbed::stats::wait_for;
use testbed::{Client, Hierarchy, Sample, Server};

#[test]
fn sanity() -> anyhow::Result<()> {
    let h = Hierarchy::new()?;
    let dir = TempDir::new()?;
    h.leaf().uri("spiffe://cluster.local/ns/a/sa/server").issue()?.write_to(dir.path())?;
    h.trust_bundle().write_to(dir.path())?;
    let app = Server::http_echo(None)?;
    for f in ["http.yaml", "both.yaml", "xfcc.yaml", "network.yaml"] {
        let envoy = Sample::local(f, dir.path())?.upstream("app", app.port()).start(1)?;
        let client = h.leaf().uri("spiffe://cluster.local/ns/shop/sa/pay").issue()?;
        let port = envoy.listener_port("inbound")?;
        let mut c = Client::mtls(&client).http(port)?;
        let r = c.get("/", &[])?;
        println!("{f} {} {}", r.status, r.text());
        c.get("/", &[])?;
        for s in envoy.stats()?.with_prefix("mtls_") {
            println!("{s:?}");
        }
        println!("{}", envoy.log().lines().filter(|l| l.contains("wasm")).collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}
