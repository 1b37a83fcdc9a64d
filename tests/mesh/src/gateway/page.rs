//! docs/install-envoy-gateway.md, as a user follows it: the samples of `envoy-config/envoy-gateway` word for word, but for the
//! address of the image.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::documented::{checkout_of, commands_of_introduction, commands_of_section, run};
use crate::workspace_root;

const PAGE: &str = "docs/install-envoy-gateway.md";
/// Its resource is not here: [`super::scrape`] is what Prometheus' operator would do.
const POD_MONITOR: &str = "envoy-config/envoy-gateway/pod-monitor.yaml";

/// Where the commands are given: with the samples, and the module as a release has it.
#[derive(Debug)]
pub struct Page(PathBuf);

impl Page {
    /// A fresh copy.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn checkout() -> Result<Self> {
        let registry = ("registry.example.com/", "10.99.0.1:5000/");
        let folder = checkout_of("envoy-gateway", "extension-policy.yaml", registry)?;
        let module = workspace_root().join("target/wasm32-wasip1/release/mtls_watch.wasm");
        fs::copy(&module, folder.join("mtls_watch.wasm")).context("make build")?;
        Ok(Self(folder))
    }

    /// The steps before all sections.
    ///
    /// # Errors
    /// If a command fails, or what is to hold after it does not.
    pub fn install(&self, after: impl FnMut(&str) -> Result<()>) -> Result<()> {
        self.give(&commands_of_introduction(PAGE)?, after)
    }

    /// The commands of a section.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub fn follow(&self, section: &str, after: impl FnMut(&str) -> Result<()>) -> Result<()> {
        self.give(&commands_of_section(PAGE, section)?, after)
    }

    /// One command, in this folder.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, command: &str) -> Result<String> {
        run(command, &self.0)
    }

    fn give(&self, commands: &[String], mut after: impl FnMut(&str) -> Result<()>) -> Result<()> {
        for command in commands
            .iter()
            .filter(|command| !command.contains(POD_MONITOR))
        {
            self.run(command).with_context(|| format!("$ {command}"))?;
            after(command).with_context(|| format!("after $ {command}"))?;
        }
        Ok(())
    }
}
