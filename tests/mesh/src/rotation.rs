//! `mtls-watch rotation-status` over the sidecars of a namespace, as docs/ca-rotation.md asks it. What a gate
//! allows is tried at once: a gate that says yes, and is wrong, fails the scenario.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::authority::Authority;
use crate::handshakes::{PROBE, every_pair, everybody_shows, everybody_takes};
use crate::namespace::Namespace;
use crate::{DEADLINE, eventually, scratch, workspace_root};

/// Which CAs a rotation is about.
#[derive(Debug)]
pub struct Rotation<'a> {
    /// What is to go: the name of a CA, or the SHA-256 of a certificate.
    pub old: String,
    /// What comes.
    pub new: String,
    /// The certificates of all CAs, for `--cas`.
    pub cas: String,
    /// The CA that will sign, or signs anew all the time: the new one, or one under it.
    pub signer: &'a Authority,
    /// Whose leaves these are.
    pub leaves: Leaves<'a>,
}

/// Whose leaves a CA signs.
#[derive(Clone, Copy, Debug)]
pub enum Leaves<'a> {
    /// The workloads'.
    Workloads,
    /// Those of clients from outside, such as this one.
    Partners(&'a str),
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
    /// Runs `rotation-status` with these arguments on these proxies, `NAME=URL`. Calls are made several times a second,
    /// so three seconds show whether handshakes are refused now.
    ///
    /// # Errors
    /// If the command cannot read a proxy.
    pub fn ask(arguments: &[String], proxies: impl IntoIterator<Item = String>) -> Result<Self> {
        let output = Command::new(workspace_root().join("target/release/mtls-watch"))
            .args(["rotation-status", "--format", "json"])
            .args(["--observe", "3s"])
            .args(arguments)
            .args(proxies)
            .output()
            .context("make cli")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value = serde_json::from_slice(&output.stdout).context(said)?;
        let gates = report["gates"].as_array().context("no gates")?.iter();
        let verdict = |gate: &Value| {
            let verdict = gate["verdict"].as_str()?.to_owned();
            Some((gate["number"].as_u64()?, verdict))
        };
        Ok(Self {
            verdicts: gates.filter_map(verdict).collect(),
            report,
        })
    }

    /// What all gates say, a letter for each: `y y n n ?`.
    #[must_use]
    pub fn letters(&self) -> String {
        let letters = self
            .verdicts
            .values()
            .map(|verdict| match verdict.as_str() {
                "open" => "y",
                "closed" => "n",
                _ => "?",
            });
        letters.collect::<Vec<_>>().join(" ")
    }

    /// Whether the gate says yes.
    #[must_use]
    pub fn is_open(&self, gate: u64) -> bool {
        self.verdicts
            .get(&gate)
            .is_some_and(|verdict| verdict == "open")
    }

    /// Why those that are not open are not, on a line each.
    #[must_use]
    pub fn reasons(&self) -> String {
        let shut = self.verdicts.keys().filter(|gate| !self.is_open(**gate));
        let lines = shut.map(|gate| format!("gate {gate}: {}", self.because(*gate)));
        lines.collect::<Vec<_>>().join("\n")
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

impl<'a> Rotation<'a> {
    /// Of the workloads' CA `old` to `new`, with `signer` at the end of its chain.
    #[must_use]
    pub fn of_workloads(
        old: &Authority,
        new: &Authority,
        signer: &'a Authority,
        cas: &[&Authority],
    ) -> Self {
        Self {
            old: old.ca_name(),
            new: new.ca_name(),
            cas: cas.iter().map(|ca| ca.pem()).collect(),
            signer,
            leaves: Leaves::Workloads,
        }
    }

    /// Asks the gates, and tries what those that are open allow.
    ///
    /// # Errors
    /// If the command cannot read a proxy, or a gate is wrong.
    pub fn gates(&self, shop: &Namespace) -> Result<Gates> {
        let gates = self.status(shop)?;
        self.must_be_true(&gates, shop)?;
        Ok(gates)
    }

    /// Asks until the gate is open, or is not, and tries each time what those that are open allow.
    ///
    /// # Errors
    /// After the deadline, with what stands in the way; at once if a gate is wrong.
    pub fn wait_for_gate(&self, shop: &Namespace, gate: u64, open: bool) -> Result<()> {
        self.wait_within(DEADLINE, shop, gate, open)
    }

    /// As [`Self::wait_for_gate`], with a deadline of one's own.
    ///
    /// # Errors
    /// As there.
    pub fn wait_within(
        &self,
        deadline: Duration,
        shop: &Namespace,
        gate: u64,
        open: bool,
    ) -> Result<()> {
        let expected = if open { "open" } else { "shut" };
        let mut wrong = Ok(());
        eventually(deadline, || {
            let gates = self.status(shop)?;
            wrong = self.must_be_true(&gates, shop);
            let verdict = gates.verdicts.get(&gate).map_or("missing", String::as_str);
            ensure!(
                wrong.is_err() || gates.is_open(gate) == open,
                "gate {gate} is {verdict}, not {expected}: {}",
                gates.because(gate)
            );
            Ok(())
        })?;
        wrong
    }

    /// A gate that says yes while a handshake that it allows fails.
    fn must_be_true(&self, gates: &Gates, shop: &Namespace) -> Result<()> {
        for (gate, verdict) in &gates.verdicts {
            if verdict == "open" {
                self.is_true(*gate, shop)
                    .with_context(|| format!("gate {gate} says yes, and it is not so"))?;
            }
        }
        Ok(())
    }

    fn is_true(&self, gate: u64, shop: &Namespace) -> Result<()> {
        match gate {
            1 => self.everybody_takes_the_new(shop),
            2 => every_pair(shop),
            3 | 4 => self.everybody_shows_the_new(shop),
            5 => {
                self.everybody_takes_the_new(shop)?;
                every_pair(shop)?;
                self.everybody_shows_the_new(shop)
            }
            _ => bail!("what is gate {gate}?"),
        }
    }

    /// Each proxy takes a leaf of the CA that will sign.
    ///
    /// # Errors
    /// If one refuses it.
    pub fn everybody_takes_the_new(&self, shop: &Namespace) -> Result<()> {
        let uri = match self.leaves {
            Leaves::Workloads => PROBE,
            Leaves::Partners(uri) => uri,
        };
        everybody_takes(shop, &self.signer.leaf(uri)?)
            .with_context(|| format!("a leaf of {}", self.signer.ca_name()))
    }

    fn everybody_shows_the_new(&self, shop: &Namespace) -> Result<()> {
        match self.leaves {
            Leaves::Workloads => everybody_shows(shop, self.signer),
            Leaves::Partners(_) => Ok(()),
        }
    }

    /// Asks every sidecar of the namespace.
    fn status(&self, shop: &Namespace) -> Result<Gates> {
        let folder = scratch("rotation");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}.pem", shop.name));
        fs::write(&file, &self.cas)?;
        let pods = shop.pods()?.into_iter();
        let proxies = pods.map(|(name, address)| format!("{name}=http://{address}:15090"));
        // This is asked every few seconds.
        let question = [
            "--recent", "15s", "--old", &self.old, "--new", &self.new, "--cas",
        ];
        let mut question: Vec<String> = question.map(str::to_owned).into();
        question.push(file.display().to_string());
        Gates::ask(&question, proxies)
    }
}
