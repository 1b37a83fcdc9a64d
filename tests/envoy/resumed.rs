//! A TLS session that is resumed: Envoy lets the client in with the certificate of the first handshake, and does not
//! verify it again.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::pki::{HOUR, Lifetime, now};
use testbed::stats::eventually;
use testbed::{Client, TlsVersion};

use crate::setup::{CONNECTION_FINDINGS, Counted, INBOUND, Pki, Proxy, REQUEST_FINDINGS};

const FINDINGS: [&str; 2] = [CONNECTION_FINDINGS, REQUEST_FINDINGS];

fn unverified() -> [(&'static str, &'static str); 3] {
    let finding = ("finding", "session_unverified");
    [INBOUND, ("layer", "workload"), finding]
}

#[test]
fn a_client_whose_certificate_has_ended_comes_in_unverified() -> Result<()> {
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let pki = Pki::new()?;
        let proxy = Proxy::http(pki.sample("both.yaml")?)?;
        let end = now() + 6;
        let leaf = pki.pay().lifetime(Lifetime {
            not_before: end - HOUR,
            not_after: end,
        });
        let leaf = leaf.issue()?;
        let client = || Client::mtls(&leaf).version(version).resuming();
        let (resuming, fresh) = (client()?, client()?);
        // The second one resumes the session of the first, and both are sound.
        proxy.get(&resuming)?;
        proxy.get(&resuming)?;
        for metric in FINDINGS {
            assert_eq!(proxy.stats()?.sum(metric, &unverified()), 0.0, "{metric}");
        }
        eventually(Duration::from_secs(30), || {
            ensure!(now() > end + 1);
            Ok(())
        })?;
        let counted = Counted::by(&proxy.envoy, || proxy.get(&resuming).map(drop))?;
        for metric in FINDINGS {
            assert_eq!(counted.sum(metric, &unverified()), 1.0, "{metric}");
        }
        assert_eq!(counted.status("inbound")?, "expired");
        assert!(proxy.get(&fresh).is_err(), "a full handshake is refused");
    }
    Ok(())
}

/// Without resumption each connection is verified; sound clients that resume are not found.
#[test]
fn a_sound_client_may_resume() -> Result<()> {
    let pki = Pki::new()?;
    let proxy = Proxy::http(pki.sample("both.yaml")?)?;
    let client = pki.client()?.resuming()?;
    for _ in 0..3 {
        proxy.get(&client)?;
    }
    let stats = proxy.stats()?;
    assert!(stats.sum("envoy_listener_ssl_session_reused", &[]) > 0.0);
    for metric in FINDINGS {
        assert_eq!(stats.sum(metric, &[]), 0.0, "{metric}");
    }
    Ok(())
}
