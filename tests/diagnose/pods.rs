//! Pods, by a kubectl that leads to a real Envoy: it prints what kubectl prints, and forwards nothing but names its port.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testbed::{Envoy, Hierarchy};

use crate::proxies::{Side, bootstrap, diagnose, server};

const PAY: &str = "spiffe://cluster.local/ns/shop/sa/pay";

/// A kubectl that knows one pod. `forwards`: whether it may forward ports; else there is the agent.
struct Kubectl(TempDir);

impl Kubectl {
    fn new(envoy: &Envoy, forwards: bool) -> Result<Self> {
        let directory = TempDir::new()?;
        let port = envoy.admin().port();
        let forward = match forwards {
            true => format!("echo 'Forwarding from 127.0.0.1:{port} -> 15000'; exec sleep 60"),
            false => "echo 'error: pods \"pay\" is forbidden: cannot create pods/portforward' >&2; exit 1".to_owned(),
        };
        let fetch = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())";
        let script = format!(
            "#!/bin/sh
echo \"$*\" >> {log}
case \"$*\" in
  *port-forward*pod/pay*) {forward} ;;
  *exec*pod/pay*pilot-agent*) for path; do :; done; exec python3 -c '{fetch}' \"http://127.0.0.1:{port}$path\" ;;
  *get*pods*app=pay*) echo pod/pay ;;
  *get*pods*) ;;
  *) echo 'Error from server (NotFound): pods \"absent\" not found' >&2; exit 1 ;;
esac
",
            log = directory.path().join("log").display()
        );
        let path = directory.path().join("kubectl");
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self(directory))
    }

    fn path(&self) -> String {
        self.0.path().join("kubectl").display().to_string()
    }

    /// How it was called.
    fn calls(&self) -> Result<String> {
        Ok(fs::read_to_string(self.0.path().join("log"))?)
    }

    fn diagnose(&self, arguments: &[&str]) -> Result<(Value, u8)> {
        let path = self.path();
        let options = ["-n", "shop", "--context", "prod", "--kubectl", &path];
        diagnose(&[&options, arguments].concat())
    }
}

fn envoy(cas: &Hierarchy) -> Result<Envoy> {
    let leaf = cas.leaf().uri(PAY).issue()?.leaf_only();
    let pay = Side::new(&leaf, &cas.trust_bundle());
    Envoy::start(&bootstrap(&[server("inbound", "0", &pay)?], &[]), 1)
}

/// The port is forwarded where that is allowed; else the agent in the sidecar is asked.
#[test]
fn are_reached_either_way() -> Result<()> {
    let cas = Hierarchy::new()?;
    let envoy = envoy(&cas)?;
    for forwards in [true, false] {
        let kubectl = Kubectl::new(&envoy, forwards)?;
        for target in [&["pod/pay"][..], &["--selector", "app=pay"]] {
            let (report, code) = kubectl.diagnose(target)?;
            assert_eq!(
                (report["verdict"]["word"].as_str(), code),
                (Some("unknown_ca"), 1),
                "{report:#}"
            );
            assert_eq!(report["targets"][0]["target"], "pod/pay");
            assert_eq!(report["targets"][0]["identities"][0], PAY);
            // The command is one that leads to this pod.
            let command = report["verdict"]["command"].as_str().unwrap_or_default();
            ensure!(
                command.contains("--context=prod --namespace=shop") && command.contains("pay"),
                "{command}"
            );
        }
        let calls = kubectl.calls()?;
        let all = calls
            .lines()
            .all(|line| line.starts_with("--context=prod --namespace=shop "));
        ensure!(all, "{calls}");
        assert_eq!(
            calls.contains("exec pod/pay -c istio-proxy -- pilot-agent request GET /certs"),
            !forwards,
            "{calls}"
        );
    }
    Ok(())
}

#[test]
fn what_kubectl_says_is_told() -> Result<()> {
    let cas = Hierarchy::new()?;
    let envoy = envoy(&cas)?;
    let kubectl = Kubectl::new(&envoy, true)?;
    for (arguments, expected) in [
        (
            &["pod/absent"][..],
            "kubectl port-forward pod/absent :15000: Error from server (NotFound)",
        ),
        (
            &["--selector", "app=none"],
            "--selector app=none: there is no such pod",
        ),
    ] {
        let path = kubectl.path();
        let all = [&["mtls-watch", "diagnose", "--kubectl", &path], arguments].concat();
        let output = mtls_watch_cli::execute(all);
        assert_eq!((output.code, output.text.as_str()), (2, ""));
        ensure!(output.complaint.contains(expected), "{}", output.complaint);
    }
    Ok(())
}
