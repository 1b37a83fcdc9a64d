//! `mtls-watch rotation-status` over the sidecars of a namespace, as docs/ca-rotation.md asks it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::authority::Authority;
use crate::namespace::Namespace;
use crate::{DEADLINE, eventually, workspace_root};

/// Which CAs a rotation is about.
#[derive(Debug)]
pub struct Rotation<'a> {
    /// The root, or the issuing CA, that is to go.
    pub old: &'a Authority,
    /// The one that comes.
    pub new: &'a Authority,
    /// All CAs, for `--cas`.
    pub cas: Vec<&'a Authority>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Gates {
    /// By number: `open`, `closed` or `unknown`.
    pub verdicts: BTreeMap<u64, String>,
    /// All of it.
    pub report: Value,
}

impl Gates {
    /// Whether the gate says yes.
    #[must_use]
    pub fn is_open(&self, gate: u64) -> bool {
        self.verdicts
            .get(&gate)
            .is_some_and(|verdict| verdict == "open")
    }

    /// Why the gate says what it says.
    #[must_use]
    pub fn because(&self, gate: u64) -> String {
        let gates = self.report["gates"].as_array().into_iter().flatten();
        let gates = gates.filter(|found| found["number"] == gate);
        let reasons = gates.flat_map(|gate| gate["because"].as_array().into_iter().flatten());
        let words = reasons.map(|reason| format!("{}: {}", reason["proxy"], reason["what"]));
        words.collect::<Vec<_>>().join("; ")
    }
}

impl Rotation<'_> {
    /// Asks every sidecar of the namespace.
    ///
    /// # Errors
    /// If the command cannot read one.
    pub fn status(&self, namespace: &Namespace) -> Result<Gates> {
        let folder = workspace_root().join("target/mesh-rotation");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}.pem", namespace.name));
        fs::write(
            &file,
            self.cas.iter().map(|ca| ca.pem()).collect::<String>(),
        )?;
        let pods = namespace.pods()?.into_iter();
        let proxies = pods.map(|(name, address)| format!("{name}=http://{address}:15090"));
        let output = Command::new(workspace_root().join("target/release/mtls-watch"))
            .args([
                "rotation-status",
                "--format",
                "json",
                "--recent",
                "30s",
                "--observe",
                "5s",
            ])
            .args([
                "--old",
                &self.old.ca_name(),
                "--new",
                &self.new.ca_name(),
                "--cas",
            ])
            .arg(&file)
            .args(proxies)
            .output()
            .context("make cli")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value = serde_json::from_slice(&output.stdout).context(said)?;
        let gates = report["gates"].as_array().context("no gates")?.iter();
        let verdict = |gate: &Value| {
            Some((
                gate["number"].as_u64()?,
                gate["verdict"].as_str()?.to_owned(),
            ))
        };
        Ok(Gates {
            verdicts: gates.filter_map(verdict).collect(),
            report,
        })
    }

    /// Asks until the gate is open, or is not.
    ///
    /// # Errors
    /// After the deadline, with what stands in the way.
    pub fn wait_for_gate(&self, namespace: &Namespace, gate: u64, open: bool) -> Result<()> {
        self.wait_within(DEADLINE, namespace, gate, open)
    }

    /// As [`Self::wait_for_gate`], with a deadline of one's own.
    ///
    /// # Errors
    /// After the deadline, with what stands in the way.
    pub fn wait_within(
        &self,
        deadline: Duration,
        namespace: &Namespace,
        gate: u64,
        open: bool,
    ) -> Result<()> {
        let expected = if open { "open" } else { "shut" };
        eventually(deadline, || {
            let gates = self.status(namespace)?;
            let verdict = gates.verdicts.get(&gate).map_or("missing", String::as_str);
            ensure!(
                gates.is_open(gate) == open,
                "gate {gate} is {verdict}, not {expected}: {}",
                gates.because(gate)
            );
            Ok(())
        })
    }
}
