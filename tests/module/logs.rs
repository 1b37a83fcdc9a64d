//! What an operator reads in Envoy's log.

use std::time::Duration;

use wasmtime::Result;

use crate::attributes::Attributes;
use crate::host::{Proxy, Worker};
use crate::pki::{Certificate, DAY, Leaf};

/// A certificate with one finding, and a name in it.
fn expired(identity: &str) -> Certificate {
    Leaf::new(identity).valid(-90 * DAY, -DAY).sign()
}

fn show(worker: &mut Worker, certificate: &Certificate, times: usize) -> Result<()> {
    for _ in 0..times {
        worker.exchange(&Attributes::http().client(certificate))?;
    }
    worker.tick()
}

#[test]
fn a_finding_is_logged_once_in_an_hour_or_as_configured() -> Result<()> {
    for (configuration, minutes) in [("", 60), (r#"{"log_repeat": "10m"}"#, 10)] {
        let proxy = Proxy::new();
        let mut worker = proxy.worker(configuration)?;
        let certificate = expired("spiffe://d/x");
        show(&mut worker, &certificate, 20)?;
        assert_eq!(worker.logs().len(), 1, "{:?}", worker.logs());

        proxy.advance(Duration::from_secs((minutes - 1) * 60));
        show(&mut worker, &certificate, 20)?;
        assert_eq!(worker.logs().len(), 1, "{:?}", worker.logs());
    }
    Ok(())
}

#[test]
fn a_lasting_finding_is_logged_again_after_the_repeat() -> Result<()> {
    let proxy = Proxy::new();
    let mut worker = proxy.worker("")?;
    let certificate = expired("spiffe://d/x");
    show(&mut worker, &certificate, 20)?;
    proxy.advance(Duration::from_secs(61 * 60));
    show(&mut worker, &certificate, 20)?;
    assert_eq!(worker.logs().len(), 2, "{:?}", worker.logs());
    Ok(())
}

#[test]
fn a_line_says_what_is_wrong_with_whom() -> Result<()> {
    const WARN: u32 = 3;
    let mut worker = Proxy::new().worker("")?;
    show(&mut worker, &expired("spiffe://d/x"), 1)?;
    let [(level, line)] = worker.logs() else {
        panic!("{:?}", worker.logs());
    };
    assert!(*level >= WARN, "level {level}");
    for part in [
        "mtls-watch: ",
        "direction=inbound",
        "layer=workload",
        "identity=\"spiffe://d/x\"",
        "issuer=\"Issuing CA:",
        "not_after=2026-05-31T00:00:00Z",
        "expired",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    Ok(())
}

#[test]
fn nothing_is_logged_of_a_peer_in_order() -> Result<()> {
    let mut worker = Proxy::new().worker("")?;
    show(&mut worker, &Certificate::workload("spiffe://d/x"), 5)?;
    assert_eq!(worker.logs(), []);
    Ok(())
}

#[test]
fn a_quote_in_a_name_does_not_end_the_value() -> Result<()> {
    let mut worker = Proxy::new().worker("")?;
    let forged = "x\" level=info hint=\"all is well";
    let certificate = Leaf::nameless()
        .common_name(forged)
        .valid(-90 * DAY, -DAY)
        .sign();
    show(&mut worker, &certificate, 1)?;
    assert!(!worker.logs().is_empty());
    for (_, line) in worker.logs() {
        assert!(!line.contains(forged), "{line}");
    }
    Ok(())
}
