//! `mtls-watch rotation-status`, run on the proxies' URLs as an operator runs it.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::authority::{Authority, label};
use crate::mesh::Mesh;

/// A CA that signed a peer's leaf within this time still signs. Three ticks of the module.
pub const RECENT: &str = "15s";

/// What was refused once is looked at again after this time. The load makes many handshakes a second.
const OBSERVE: &str = "1s";

const CAS: &str = "--cas";

/// Exit code: the gate is open.
const OPEN: i32 = 0;
/// Exit code: the gate is not open.
const NOT_OPEN: i32 = 1;

/// The command, for a rotation.
pub struct Status {
    binary: PathBuf,
    arguments: Vec<String>,
    sources: Vec<String>,
}

impl Status {
    /// Asks the sidecars of `mesh` about the rotation from `old` to `new`; `cas` is a PEM file with the
    /// certificates of both.
    ///
    /// # Errors
    /// If the command has not been built.
    pub fn new(mesh: &Mesh, old: &Authority, new: &Authority, cas: &Path) -> Result<Self> {
        let url = |name: &str, admin| format!("{name}=http://{admin}");
        let sidecars = mesh.sidecars().iter();
        let arguments = [
            "--old",
            &label(old.root_name()),
            "--new",
            &label(new.root_name()),
            "--recent",
            RECENT,
            "--observe",
            OBSERVE,
            CAS,
            &cas.display().to_string(),
        ];
        Ok(Self {
            binary: binary()?,
            arguments: arguments.map(str::to_owned).to_vec(),
            sources: sidecars
                .map(|sidecar| url(sidecar.name, sidecar.envoy.admin()))
                .collect(),
        })
    }

    /// The same without the CAs' certificates: from the metrics alone.
    pub fn without_certificates(mut self) -> Self {
        if let Some(option) = self.arguments.iter().position(|argument| argument == CAS) {
            self.arguments.drain(option..option + 2);
        }
        self
    }

    /// The command line, for people.
    pub fn command_line(&self) -> String {
        let arguments = [&self.arguments[..], &self.sources].concat();
        format!("mtls-watch rotation-status {}", arguments.join(" "))
    }

    /// What it says now; `gate` decides the exit code.
    ///
    /// # Errors
    /// If a proxy cannot be read.
    pub fn ask(&self, gate: u8) -> Result<Answer> {
        let (code, json) = self.run(gate, "json")?;
        Ok(Answer {
            is_open: code == OPEN,
            report: serde_json::from_str(&json)?,
        })
    }

    /// The same for people.
    ///
    /// # Errors
    /// As [`Status::ask`].
    pub fn text(&self, gate: u8) -> Result<Text> {
        let (code, text) = self.run(gate, "text")?;
        Ok(Text {
            is_open: code == OPEN,
            text,
        })
    }

    fn run(&self, gate: u8, format: &str) -> Result<(i32, String)> {
        let output = Command::new(&self.binary)
            .arg("rotation-status")
            .args(["--gate", &gate.to_string(), "--format", format])
            .args(&self.arguments)
            .args(&self.sources)
            .output()
            .with_context(|| self.binary.display().to_string())?;
        match output.status.code() {
            Some(code @ (OPEN | NOT_OPEN)) => Ok((code, String::from_utf8(output.stdout)?)),
            _ => bail!("{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

/// The command that was built beside this program, or `MTLS_WATCH`.
fn binary() -> Result<PathBuf> {
    let path = match env::var_os("MTLS_WATCH") {
        Some(path) => path.into(),
        None => env::current_exe()?.with_file_name("mtls-watch"),
    };
    ensure!(
        path.is_file(),
        "no command at {}: run `cargo build --bin mtls-watch`",
        path.display()
    );
    Ok(path)
}

/// An answer of the command, as data.
pub struct Answer {
    /// By its exit code, the gate that was asked for is open.
    pub is_open: bool,
    report: Value,
}

impl Answer {
    /// The verdict at a gate: `open`, `closed`, `unknown`.
    pub fn verdict(&self, gate: u8) -> &str {
        self.gate(gate)["verdict"].as_str().unwrap_or("missing")
    }

    /// The proxies that stand in the way at a gate, or of which it is not known whether they do.
    pub fn blockers(&self, gate: u8) -> BTreeSet<&str> {
        self.because(gate, "proxy")
    }

    /// The CAs because of which they do.
    pub fn blocking_cas(&self, gate: u8) -> BTreeSet<&str> {
        self.because(gate, "ca")
    }

    /// Whether nothing at a gate is left unknown.
    pub fn is_certain(&self, gate: u8) -> bool {
        !self.because(gate, "verdict").contains("unknown")
    }

    fn because(&self, gate: u8, key: &str) -> BTreeSet<&str> {
        let because = self.gate(gate)["because"].as_array();
        let reasons = because.into_iter().flatten();
        reasons.filter_map(|reason| reason[key].as_str()).collect()
    }

    /// The state of a CA, by its name as in labels.
    pub fn state(&self, ca: &str) -> &str {
        let cas = self.report["cas"].as_array();
        let mut cas = cas.into_iter().flatten();
        let row = cas.find(|row| row["ca"] == ca);
        row.and_then(|row| row["state"].as_str())
            .unwrap_or("missing")
    }

    fn gate(&self, number: u8) -> &Value {
        let gates = self.report["gates"].as_array();
        let mut gates = gates.into_iter().flatten();
        gates
            .find(|gate| gate["number"] == number)
            .unwrap_or(&Value::Null)
    }
}

#[cfg(test)]
impl Answer {
    /// An answer, for tests.
    pub fn of(is_open: bool, report: Value) -> Self {
        Self { is_open, report }
    }
}

/// An answer of the command, as text: the proxies, the CAs, each gate, the conclusion, with empty lines
/// between them.
pub struct Text {
    /// By its exit code, the gate that was asked for is open.
    pub is_open: bool,
    /// All of it.
    pub text: String,
}

impl Text {
    /// The table of the proxies.
    ///
    /// # Errors
    /// If it is not there.
    pub fn proxies(&self) -> Result<&str> {
        self.section("PROXY ")
    }

    /// The table of the CAs.
    ///
    /// # Errors
    /// If it is not there.
    pub fn cas(&self) -> Result<&str> {
        self.section("CA ")
    }

    /// A gate, with those who stand in the way.
    ///
    /// # Errors
    /// If it is not there.
    pub fn gate(&self, number: u8) -> Result<&str> {
        self.section(&format!("{number} "))
    }

    fn section(&self, begins: &str) -> Result<&str> {
        let mut sections = self.text.split("\n\n");
        let found = sections.find(|section| section.starts_with(begins));
        found.with_context(|| format!("no section {begins:?} in:\n{}", self.text))
    }
}
