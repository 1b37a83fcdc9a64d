//! The TLS stacks as programs: each as a client of the proxy, and as a server behind it.

mod client;
mod configured;
mod server;

use std::ffi::OsString;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testbed::stats::eventually;
use testbed::{tool, workspace_root};

use crate::materials::Materials;

pub use client::{Answer, Client, answer};
pub use configured::{haproxy_checks, haproxy_port_checks};
pub use server::{Served, Server};

/// The programs that were written for this, in `stacks`.
const SOURCES: &str = "tools/scenarios/src/bin/refusals/stacks";

/// Generous, for Java on a machine that is busy.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A TLS stack that people run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// `openssl s_client`, `openssl s_server`.
    OpenSsl,
    Curl,
    Python,
    Node,
    Java,
    Go,
    /// `gnutls-cli`, `gnutls-serv`.
    GnuTls,
    Nginx,
    HaProxy,
    /// Within this process.
    Rustls,
}

impl Stack {
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenSsl => "OpenSSL",
            Self::Curl => "curl",
            Self::Python => "Python",
            Self::Node => "Node",
            Self::Java => "Java",
            Self::Go => "Go",
            Self::GnuTls => "GnuTLS",
            Self::Nginx => "nginx",
            Self::HaProxy => "HAProxy",
            Self::Rustls => "rustls",
        }
    }

    /// Whether `make test` has it anyway.
    pub fn is_everywhere(self) -> bool {
        matches!(self, Self::OpenSsl | Self::Python | Self::Rustls)
    }
}

/// A version of TLS. The old ones only OpenSSL is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1_1,
    V1_2,
    V1_3,
}

impl Version {
    pub const BOTH: [Self; 2] = [Self::V1_2, Self::V1_3];

    pub fn name(self) -> &'static str {
        match self {
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }

    fn rustls(self) -> testbed::TlsVersion {
        match self {
            Self::V1_3 => testbed::TlsVersion::V1_3,
            Self::V1_1 | Self::V1_2 => testbed::TlsVersion::V1_2,
        }
    }
}

/// A program that runs until this is dropped, and its files.
#[derive(Debug)]
pub struct Running {
    process: Child,
    _files: Option<TempDir>,
}

impl Running {
    /// Starts it, and waits until the port is open.
    fn start(command: &mut Command, port: u16, files: Option<TempDir>) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{}: cannot run", command.get_program().display()))?;
        let is_open = eventually(START_DEADLINE, || {
            if let Some(status) = process.try_wait()? {
                return Ok(Err(anyhow::anyhow!("{command:?}: {status}")));
            }
            TcpStream::connect(("127.0.0.1", port))?;
            Ok(Ok(()))
        });
        let this = Self {
            process,
            _files: files,
        };
        is_open.and_then(|it| it).map(|()| this)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Client {
    /// Makes the request.
    pub fn request(&self, port: u16, materials: &Materials) -> Result<Answer> {
        match self.stack {
            Stack::Nginx => configured::through_nginx(self, port, materials),
            Stack::HaProxy => configured::through_haproxy(self, port, materials),
            _ => self.run(port, materials),
        }
    }
}

impl Server {
    /// Starts it on this port.
    pub fn start(&self, port: u16, materials: &Materials) -> Result<Served> {
        match self.stack {
            Stack::Nginx => configured::nginx(self, port, materials).map(Served::Program),
            Stack::HaProxy => configured::haproxy(self, port, materials).map(Served::Program),
            _ => self.run(port, materials),
        }
    }
}

/// What is compiled for the run: the programs of Java and Go.
fn compiled() -> PathBuf {
    workspace_root().join("target/refusals")
}

/// Compiles the programs of Java and Go.
///
/// # Errors
/// If a compiler is missing.
pub fn compile() -> Result<()> {
    let folder = compiled();
    fs::create_dir_all(&folder)?;
    let source = |file: &str| workspace_root().join(SOURCES).join(file);
    let java = fs::canonicalize(tool("java")?)?;
    succeed(
        Command::new(java.with_file_name("javac"))
            .arg("-d")
            .arg(&folder)
            .arg(source("Tls.java")),
    )?;
    succeed(
        Command::new(tool("go")?)
            .env("GO111MODULE", "off")
            .args(["build", "-o"])
            .arg(folder.join("tls"))
            .arg(source("tls.go")),
    )
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {complaint}");
    Ok(())
}

/// The command of a stack whose program is in `stacks`; `None` of another.
fn scripted(stack: Stack) -> Result<Option<Command>> {
    let script = |interpreter: OsString, file: &str| {
        let mut command = Command::new(interpreter);
        command.arg(workspace_root().join(SOURCES).join(file));
        command
    };
    Ok(Some(match stack {
        Stack::Python => {
            let python = env::var_os("PYTHON").filter(|it| !it.is_empty());
            script(python.unwrap_or("python3".into()), "tls.py")
        }
        Stack::Node => script(tool("node")?.into(), "tls.js"),
        Stack::Java => {
            let mut command = Command::new(tool("java")?);
            command
                .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
                .arg(compiled())
                .arg("Tls");
            command
        }
        Stack::Go => Command::new(compiled().join("tls")),
        _ => return Ok(None),
    }))
}
