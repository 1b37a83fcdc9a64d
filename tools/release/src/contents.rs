//! The crates that are linked into the module, as cargo resolves them for the Wasm target.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{MetadataCommand, Package};

/// The target the module is built for.
pub(crate) const TARGET: &str = "wasm32-wasip1";
const MODULE: &str = "mtls-watch";

/// What is linked into the module.
pub(crate) struct Contents {
    /// The module's own package.
    pub(crate) module: Package,
    /// Its dependencies, in the order of their names.
    pub(crate) crates: Vec<Package>,
    /// The toolchain, whose standard library is inside as well.
    pub(crate) toolchain: Toolchain,
}

/// A Rust toolchain.
pub(crate) struct Toolchain {
    /// Version, such as `1.95.0`.
    pub(crate) version: String,
    /// The standard library's own list of licences and copyright holders.
    pub(crate) copyright: PathBuf,
}

impl Contents {
    /// Asks cargo and rustc.
    ///
    /// # Errors
    /// If one of them fails, or says what is not understood.
    pub(crate) fn resolve() -> Result<Self> {
        let linked = linked()?;
        let metadata = MetadataCommand::new()
            .other_options(["--locked".to_owned()])
            .exec()?;
        let is_linked = |package: &Package| {
            linked.contains(&(package.name.to_string(), package.version.to_string()))
        };
        let (own, mut crates): (Vec<_>, Vec<_>) = metadata
            .packages
            .into_iter()
            .filter(is_linked)
            .partition(|package| package.source.is_none());
        ensure!(
            own.len() + crates.len() == linked.len(),
            "two sources for one crate of {linked:?}"
        );
        crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(Self {
            // The workspace's other crates are parts of it: published with it, under its licence.
            module: own
                .into_iter()
                .find(|package| package.name == MODULE)
                .context("the module is not in the workspace")?,
            crates,
            toolchain: Toolchain::of_rustc()?,
        })
    }
}

/// Names and versions of what `cargo build` links: no procedural macros, no build scripts, no test
/// dependencies, and features as they are for this target (`cargo metadata` mixes those).
fn linked() -> Result<BTreeSet<(String, String)>> {
    let tree = output(Command::new(env!("CARGO")).args([
        "tree",
        "--locked",
        "--package",
        MODULE,
        "--target",
        TARGET,
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    tree.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let version = |word: &str| word.strip_prefix('v').map(str::to_owned);
            let package = words.next().map(str::to_owned);
            package.zip(words.next().and_then(version))
        })
        .map(|package| package.with_context(|| format!("cargo tree says {tree}")))
        .collect()
}

impl Toolchain {
    fn of_rustc() -> Result<Self> {
        // `rustc 1.95.0 (59807616e 2026-04-14)`
        let text = output(Command::new("rustc").arg("--version"))?;
        let version = text.split(' ').nth(1).context("rustc has no version")?;
        let root = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let copyright = PathBuf::from(root.trim()).join("share/doc/rust/COPYRIGHT-library.html");
        ensure!(
            copyright.is_file(),
            "{}: the toolchain lacks the licences of its standard library; install it with rustup",
            copyright.display()
        );
        Ok(Self {
            version: version.to_owned(),
            copyright,
        })
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
