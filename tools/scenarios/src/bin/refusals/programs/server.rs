//! A stack as a server behind the proxy.

use std::process::Command;

use anyhow::{Context, Result, bail};
use testbed::tool;

use super::client::{is_empty, priority};
use super::{Running, Stack, Version, scripted};
use crate::materials::{Materials, Shown, Trust};

/// A server that answers requests with 200.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub stack: Stack,
    pub version: Version,
    pub shows: Shown,
    /// Whose clients it lets in.
    pub trusts: Trust,
    /// The application protocols that it speaks; empty: any.
    pub alpn: &'static str,
    /// Further arguments of `openssl s_server`, or words of a configuration.
    pub options: &'static [&'static str],
}

/// A server that runs until this is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
pub enum Served {
    Program(Running),
    Here(testbed::Server),
}

impl Server {
    /// One that shows a sound certificate, and takes this proxy's.
    pub const fn new(stack: Stack, version: Version) -> Self {
        Self {
            stack,
            version,
            shows: Shown::Sound,
            trusts: Trust::Root,
            alpn: "",
            options: &[],
        }
    }

    /// Starts it on this port as a program of its own, or within this process.
    pub(super) fn run(&self, port: u16, materials: &Materials) -> Result<Served> {
        let mut command = match self.stack {
            Stack::OpenSsl => self.openssl(port, materials)?,
            Stack::GnuTls => self.gnutls(port, materials)?,
            Stack::Nginx | Stack::HaProxy | Stack::Curl => {
                bail!("{}: no such program", self.stack.name())
            }
            Stack::Python | Stack::Node | Stack::Java | Stack::Go => {
                self.scripted(port, materials)?
            }
            Stack::Rustls => return self.rustls(port, materials).map(Served::Here),
        };
        Running::start(&mut command, port, None).map(Served::Program)
    }

    pub(super) fn bundle(&self, materials: &Materials) -> Option<std::path::PathBuf> {
        (self.trusts != Trust::Anybody).then(|| materials.bundle(self.trusts))
    }

    fn scripted(&self, port: u16, materials: &Materials) -> Result<Command> {
        let mut command = scripted(self.stack)?.context("no program")?;
        let files = materials.files(self.shows);
        command.args(["server", &format!("port={port}")]);
        command.arg(format!("version={}", self.version.name()));
        command.arg(format!("cert={}", files.chain.display()));
        command.arg(format!("key={}", files.key.display()));
        if let Some(bundle) = self.bundle(materials) {
            command.arg(format!("ca={}", bundle.display()));
        }
        if !self.alpn.is_empty() {
            command.arg(format!("alpn={}", self.alpn));
        }
        Ok(command)
    }

    fn openssl(&self, port: u16, materials: &Materials) -> Result<Command> {
        let files = materials.files(self.shows);
        let mut command = Command::new(tool("openssl")?);
        command.args(["s_server", "-quiet", "-www", "-accept"]);
        command.arg(format!("127.0.0.1:{port}"));
        command.arg(match self.version {
            Version::V1_1 => "-tls1_1",
            Version::V1_2 => "-tls1_2",
            Version::V1_3 => "-tls1_3",
        });
        command.args(self.options);
        command.arg("-cert").arg(files.leaf);
        command.arg("-key").arg(files.key);
        if !is_empty(&files.above) {
            command.arg("-cert_chain").arg(files.above);
        }
        if let Some(bundle) = self.bundle(materials) {
            command.args(["-Verify", "5", "-verify_return_error", "-CAfile"]);
            command.arg(bundle);
        }
        Ok(command)
    }

    fn gnutls(&self, port: u16, materials: &Materials) -> Result<Command> {
        let files = materials.files(self.shows);
        let mut command = Command::new(tool("gnutls-serv")?);
        command.args(["--http", "--quiet", "--port", &port.to_string()]);
        command.args(["--priority", &priority(self.version)]);
        command.arg("--x509certfile").arg(files.chain);
        command.arg("--x509keyfile").arg(files.key);
        match self.bundle(materials) {
            Some(bundle) => {
                command.args(["--require-client-cert", "--verify-client-cert"]);
                command.arg("--x509cafile").arg(bundle)
            }
            None => command.arg("--disable-client-cert"),
        };
        Ok(command)
    }

    fn rustls(&self, port: u16, materials: &Materials) -> Result<testbed::Server> {
        let tls = testbed::servers::ServerTls::new(materials.identity(self.shows)?);
        let tls = tls.version(self.version.rustls());
        let tls = match self.trusts {
            Trust::Anybody => tls,
            Trust::Root => tls.requiring_client_certificate(&materials.cas.trust_bundle()),
            Trust::Strange => {
                let strange = testbed::Ca::root("Nobody's Root").issue()?;
                tls.requiring_client_certificate(&testbed::TrustBundle::of([&strange]))
            }
        };
        testbed::Server::http_echo_at(port, Some(tls))
    }
}
