//! A TLS client that is no part of the mesh, with a certificate of its own: would this proxy take it?

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::scratch;
use pki::Identity;

const END: &str = "-----END CERTIFICATE-----";

/// What a client shows, as PEM.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Leaf first.
    pub chain: String,
    /// Of the leaf.
    pub key: String,
}

impl Credentials {
    /// Of an identity.
    ///
    /// # Errors
    /// If its key cannot be written.
    pub fn of(identity: &Identity) -> Result<Self> {
        Ok(Self {
            chain: identity.chain_pem(),
            key: identity.key_pem()?,
        })
    }
}

/// Says hello to the TCP echo of a pod, as a sidecar would: with mTLS and Istio's ALPN, and with this leaf.
///
/// # Errors
/// If the sidecar does not take the leaf, and so nothing comes back; the error has what OpenSSL says.
pub fn hello(address: &str, leaf: &Identity) -> Result<()> {
    let line = first_line(
        &["-alpn", "istio", "-connect", &format!("{address}:7000")],
        leaf,
        "hello\n",
    )?;
    ensure!(line == "hello", "{address} said {line:?}");
    Ok(())
}

/// Says hello to a TCP echo behind TLS, with this leaf.
///
/// # Errors
/// If it does not take the leaf, or does not echo.
pub fn echo(address: &str, host: &str, leaf: &Identity) -> Result<()> {
    let line = first_line(&["-servername", host, "-connect", address], leaf, "hello\n")?;
    ensure!(line == "hello", "{host} said {line:?}");
    Ok(())
}

/// Asks an HTTPS server for its root page, with this leaf.
///
/// # Errors
/// If it does not take the leaf, or does not answer with 200.
pub fn get(address: &str, host: &str, leaf: &Identity) -> Result<()> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let line = first_line(&["-servername", host, "-connect", address], leaf, &request)?;
    ensure!(line == "HTTP/1.1 200 OK", "{host} said {line:?}");
    Ok(())
}

/// All that an HTTPS server answers to a request for this path: status, headers and body. Without a leaf none is shown.
///
/// # Errors
/// If nothing comes back; the error has what OpenSSL says.
pub fn reply(address: &str, host: &str, path: &str, shown: Option<&Credentials>) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut client = start(&["-servername", host, "-connect", address], shown)?;
    let mut input = client.stdin.take().context("no input")?;
    // Where the handshake has been refused there may be nobody to write to.
    input.write_all(request.as_bytes()).ok();
    // The server closes, and that ends the client.
    let output = client.wait_with_output()?;
    drop(input);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.stdout.is_empty(), "nothing came back: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Who has issued the leaf that a pod shows to this one: the issuer's distinguished name, as OpenSSL writes it.
///
/// # Errors
/// If it shows none, or does not take this leaf.
pub fn issuer_of(address: &str, leaf: &Identity) -> Result<String> {
    let said = converse(
        &["-alpn", "istio", "-connect", &format!("{address}:7000")],
        leaf,
        "hello\n",
    )?
    .1;
    // `-quiet` still tells the chain that was verified, the leaf last.
    let issuer = said.lines().find_map(|line| line.strip_prefix("depth=1 "));
    issuer
        .map(str::to_owned)
        .with_context(|| format!("{address} shows no certificate: {said}"))
}

/// The first line that comes back for what is sent.
fn first_line(arguments: &[&str], leaf: &Identity, text: &str) -> Result<String> {
    let (line, said) = converse(arguments, leaf, text)?;
    ensure!(!line.is_empty(), "nothing came back: {said}");
    Ok(line)
}

/// The first line that comes back for what is sent, empty if there is none, and what OpenSSL says.
fn converse(arguments: &[&str], leaf: &Identity, text: &str) -> Result<(String, String)> {
    let mut client = start(arguments, Some(&Credentials::of(leaf)?))?;
    let mut input = client.stdin.take().context("no input")?;
    // Where the handshake has been refused there may be nobody to write to.
    input.write_all(text.as_bytes()).ok();
    let mut line = String::new();
    BufReader::new(client.stdout.take().context("no output")?).read_line(&mut line)?;
    drop(input);
    // `timeout` passes this on to its child.
    Command::new("kill")
        .arg(client.id().to_string())
        .stderr(Stdio::null())
        .status()?;
    let mut said = String::new();
    client
        .stderr
        .take()
        .context("no errors")?
        .read_to_string(&mut said)?;
    client.wait()?;
    Ok((line.trim_end().to_owned(), said))
}

/// An OpenSSL client that goes on until the server closes, or for ten seconds.
fn start(arguments: &[&str], shown: Option<&Credentials>) -> Result<Child> {
    let folder = scratch("probe");
    fs::create_dir_all(&folder)?;
    let mut command = Command::new("timeout");
    command
        .args(["10", "openssl", "s_client", "-quiet"])
        .args(arguments);
    if let Some(Credentials { chain, key }) = shown {
        let file = |name: &str| folder.join(name);
        let end = chain.find(END).context("no certificate")? + END.len();
        let (leaf, above) = chain.split_at(end);
        fs::write(file("leaf.pem"), leaf)?;
        fs::write(file("leaf.key"), key)?;
        command.arg("-cert").arg(file("leaf.pem"));
        command.arg("-key").arg(file("leaf.key"));
        if above.contains(END) {
            fs::write(file("chain.pem"), above)?;
            command.arg("-cert_chain").arg(file("chain.pem"));
        }
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("openssl")
}
