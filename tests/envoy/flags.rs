#[test]
fn debug_it() -> anyhow::Result<()> {
    use crate::setup::*;
    use testbed::{Client, Server, TlsVersion, servers::ServerTls};
    use testbed::pki::*;
    let pki = Pki::new()?;
    for kind in [KeyKind::P256, KeyKind::Rsa2048] {
        let leaf = pki.pay().key_kind(kind).key_usages(&[KeyUsage::KeyEncipherment]).issue()?;
        let sample = pki.sample("network.yaml")?.accepting_untrusted().access_log(&pki.directory().join("log"), "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%");
        let proxy = Proxy::tcp(sample)?;
        for v in [TlsVersion::V1_2, TlsVersion::V1_3] {
            println!("{kind:?} {v:?} {:?}", proxy.echo(&Client::mtls(&leaf).version(v)).map(drop));
        }
        proxy.envoy.stop()?;
        println!("{}", std::fs::read_to_string(pki.directory().join("log"))?);

        let server = Server::tcp_echo(Some(ServerTls::new(&leaf).version(TlsVersion::V1_2)))?;
        let sample = pki.sample("upstream.yaml")?.accepting_untrusted().access_log(&pki.directory().join("log2"), "%UPSTREAM_TRANSPORT_FAILURE_REASON%")
        .set("UpstreamTlsContext", "enforce_rsa_key_usage", false);
        let proxy = Proxy::start(sample, ("outbound_tcp", "peer_tcp"), server, 1)?;
        println!("out {kind:?} {:?}", proxy.echo(&Client::plaintext()).map(drop));
        proxy.envoy.stop()?;
        println!("{}", std::fs::read_to_string(pki.directory().join("log2"))?);
    }
    Ok(())
}
