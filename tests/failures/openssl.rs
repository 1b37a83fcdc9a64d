//! Clients of OpenSSL that refuse this proxy's certificate. In TLS 1.3 their alert is in plaintext, and Envoy cannot
//! read it.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use testbed::{Ca, TrustBundle, tool};

use crate::setup::{Pki, Proxy};
use crate::watch::{Failure, REPEATED, Watch};

#[test]
fn refuse_this_proxy() -> Result<()> {
    let pki = Pki::new()?;
    let strange = tempfile::tempdir()?;
    TrustBundle::of([&Ca::root("Strange Root").issue()?]).write_to(strange.path())?;
    pki.pay().issue()?.write_to(strange.path())?;
    let own = pki.directory().join("ca.crt");
    let foreign = strange.path().join("ca.crt");
    for file in ["network.yaml", "both.yaml"] {
        let proxy = Proxy::http(pki.sample(file)?.configuration(REPEATED))?;
        let mut watch = Watch::new(&proxy.envoy);
        for version in ["-tls1_2", "-tls1_3"] {
            for (bundle, name) in [(&foreign, "localhost"), (&own, "wrong.example")] {
                let status = Command::new(tool("openssl")?)
                    .args(["s_client", "-verify_return_error", version])
                    .arg("-connect")
                    .arg(format!("127.0.0.1:{}", proxy.port))
                    .args(["-verify_hostname", name])
                    .arg("-CAfile")
                    .arg(bundle)
                    .arg("-cert")
                    .arg(strange.path().join("tls.crt"))
                    .arg("-key")
                    .arg(strange.path().join("tls.key"))
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .context("no openssl: run `make tools`")?;
                ensure!(!status.success(), "{version} {name}: not refused");
                let hint = match (version, name) {
                    ("-tls1_3", _) => "an OpenSSL client refused this proxy's certificate",
                    (_, "localhost") => "does not trust the CA of this proxy's certificate",
                    _ => "the other side refused this proxy's certificate",
                };
                let failure = Failure::new("inbound none rejected_by_peer");
                watch.expect(&failure.holder("own").hint(&[hint]))?;
            }
        }
    }
    Ok(())
}
