//! A stack as the client of the proxy.

use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::client::Response;
use testbed::stats::eventually;
use testbed::{TrustBundle, tool};

use super::{Stack, Version, scripted};
use crate::materials::{Materials, Shown, Trust};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
/// No client takes longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether a request was answered with 200; if not, what the client said.
pub type Answer = std::result::Result<(), String>;

/// A client that makes one request.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub stack: Stack,
    pub version: Version,
    pub shows: Option<Shown>,
    pub trusts: Trust,
    /// The name that it looks for in the proxy's certificate.
    pub name: &'static str,
    /// Further arguments of `openssl s_client`.
    pub options: &'static [&'static str],
}

impl Client {
    /// One that shows a sound certificate and accepts this proxy's.
    pub const fn new(stack: Stack, version: Version) -> Self {
        Self {
            stack,
            version,
            shows: Some(Shown::Sound),
            trusts: Trust::Root,
            name: "localhost",
            options: &[],
        }
    }

    /// Makes the request with a program of its own.
    pub(super) fn run(&self, port: u16, materials: &Materials) -> Result<Answer> {
        match self.stack {
            Stack::OpenSsl => answered(&mut self.openssl(port, materials)?, REQUEST),
            Stack::Curl => answered(&mut self.curl(port, materials)?, b""),
            Stack::GnuTls => answered(&mut self.gnutls(port, materials)?, REQUEST),
            Stack::Nginx | Stack::HaProxy => bail!("{}: a proxy", self.stack.name()),
            Stack::Rustls => self.rustls(port, materials),
            Stack::Python | Stack::Node | Stack::Java | Stack::Go => {
                let mut command = scripted(self.stack)?.context("no program")?;
                command.args(["client", &format!("port={port}")]);
                command.arg(format!("version={}", self.version.name()));
                command.arg(format!("name={}", self.name));
                if let Some(shown) = self.shows {
                    let files = materials.files(shown);
                    command.arg(format!("cert={}", files.chain.display()));
                    command.arg(format!("key={}", files.key.display()));
                }
                if let Some(bundle) = self.bundle(materials) {
                    command.arg(format!("ca={}", bundle.display()));
                }
                answered(&mut command, b"")
            }
        }
    }

    pub(super) fn bundle(&self, materials: &Materials) -> Option<std::path::PathBuf> {
        (self.trusts != Trust::Anybody).then(|| materials.bundle(self.trusts))
    }

    fn openssl(&self, port: u16, materials: &Materials) -> Result<Command> {
        let mut command = Command::new(tool("openssl")?);
        command.args(["s_client", "-quiet", "-connect"]);
        command.arg(format!("127.0.0.1:{port}"));
        command.arg(match self.version {
            Version::V1_1 => "-tls1_1",
            Version::V1_2 => "-tls1_2",
            Version::V1_3 => "-tls1_3",
        });
        command.args(["-servername", self.name]).args(self.options);
        if let Some(bundle) = self.bundle(materials) {
            command.args(["-verify_return_error", "-verify_hostname", self.name]);
            command.arg("-CAfile").arg(bundle);
        }
        if let Some(shown) = self.shows {
            let files = materials.files(shown);
            command.arg("-cert").arg(files.leaf);
            command.arg("-key").arg(files.key);
            if !is_empty(&files.above) {
                command.arg("-cert_chain").arg(files.above);
            }
        }
        Ok(command)
    }

    fn curl(&self, port: u16, materials: &Materials) -> Result<Command> {
        let mut command = Command::new(tool("curl")?);
        command.args(["--disable", "--silent", "--show-error", "--include"]);
        command.args(["--noproxy", "*", "--max-time", "10"]);
        command.args([&format!("--tlsv{}", self.version.name()), "--tls-max"]);
        command.arg(self.version.name());
        command.args(["--resolve", &format!("{}:{port}:127.0.0.1", self.name)]);
        match self.bundle(materials) {
            Some(bundle) => command.arg("--cacert").arg(bundle),
            None => command.arg("--insecure"),
        };
        if let Some(shown) = self.shows {
            let files = materials.files(shown);
            command.arg("--cert").arg(files.chain);
            command.arg("--key").arg(files.key);
        }
        command.arg(format!("https://{}:{port}/", self.name));
        Ok(command)
    }

    fn gnutls(&self, port: u16, materials: &Materials) -> Result<Command> {
        let mut command = Command::new(tool("gnutls-cli")?);
        command.args(["--port", &port.to_string()]);
        command.args(["--priority", &priority(self.version)]);
        command.args(["--sni-hostname", self.name]);
        match self.bundle(materials) {
            Some(bundle) => {
                command.args(["--verify-hostname", self.name, "--x509cafile"]);
                command.arg(bundle)
            }
            None => command.args(["--insecure", "--no-ca-verification"]),
        };
        if let Some(shown) = self.shows {
            let files = materials.files(shown);
            command.arg("--x509certfile").arg(files.chain);
            command.arg("--x509keyfile").arg(files.key);
        }
        command.arg("127.0.0.1");
        Ok(command)
    }

    fn rustls(&self, port: u16, materials: &Materials) -> Result<Answer> {
        let client = match self.shows {
            Some(shown) => testbed::Client::mtls(materials.identity(shown)?),
            None => testbed::Client::tls(),
        };
        let client = match self.trusts {
            Trust::Anybody => client,
            Trust::Root => client.verifying(&materials.cas.trust_bundle(), self.name),
            Trust::Strange => {
                let strange = testbed::Ca::root("Nobody's Root").issue()?;
                client.verifying(&TrustBundle::of([&strange]), self.name)
            }
        };
        let client = client.version(self.version.rustls());
        Ok(answer(client.get(port, "/", &[])))
    }
}

/// What was answered to a request of this process.
pub fn answer(response: Result<Response>) -> Answer {
    match response {
        Ok(response) if response.status == 200 => Ok(()),
        Ok(response) => Err(format!("{} {}", response.status, response.text())),
        Err(error) => Err(format!("{error:#}")),
    }
}

pub(super) fn priority(version: Version) -> String {
    format!("NORMAL:-VERS-ALL:+VERS-TLS{}", version.name())
}

pub(super) fn is_empty(file: &Path) -> bool {
    file.metadata().is_ok_and(|it| it.len() == 0)
}

/// Runs a client until it ends. Some end only with their input, and some with their input before the answer is there:
/// so it stays open until then.
fn answered(command: &mut Command, input: &[u8]) -> Result<Answer> {
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}: cannot run", command.get_program().display()))?;
    let mut stdin = process.stdin.take().context("no input")?;
    // It may have ended.
    let _ = stdin.write_all(input);
    let printed = reader(process.stdout.take());
    let complaint = reader(process.stderr.take());
    let ended = eventually(PATIENCE, || process.try_wait()?.context("still running"));
    drop(stdin);
    if ended.is_err() {
        // Both fail only if it has ended by now.
        let _ = process.kill();
        let _ = process.wait();
        bail!("{command:?}: does not end");
    }
    let text = |reader: JoinHandle<Vec<u8>>| {
        let bytes = reader.join().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (printed, complaint) = (text(printed), text(complaint));
    if printed.contains("HTTP/1.1 200") {
        return Ok(Ok(()));
    }
    Ok(Err(printed + &complaint))
}

fn reader(output: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut output) = output {
            let _ = output.read_to_end(&mut bytes);
        }
        bytes
    })
}
