//! A registry of one image, which can be made slow, or ask for a password.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::workspace_root;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Istio's agent takes no realm that is no URL, and none on a private address.
const CHALLENGE: &str = "WWW-Authenticate: Basic realm=\"https://registry.example.com/\"\r\n";

/// What it does with those who ask.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// How long each reply takes.
    pub delay: Duration,
    /// The value of the header `Authorization` that it wants, if any.
    pub authorization: Option<String>,
}

struct Image {
    layout: PathBuf,
    digest: String,
}

/// Serves the module's image (`make image`), under any name and tag, on this port of the node, for as long as the
/// scenarios run.
///
/// # Errors
/// If there is no image, or the port is taken. The digest of the image's manifest.
pub fn serve(port: u16, manners: Manners) -> Result<String> {
    let layout = workspace_root().join("target/image");
    let index = fs::read(layout.join("index.json")).context("make image")?;
    let index: serde_json::Value = serde_json::from_slice(&index)?;
    let digest = index["manifests"][0]["digest"]
        .as_str()
        .context("no manifest in the image")?
        .to_owned();
    let listener = TcpListener::bind(("10.99.0.1", port))?;
    let image = Arc::new(Image {
        layout,
        digest: digest.clone(),
    });
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let (image, manners) = (Arc::clone(&image), manners.clone());
            thread::spawn(move || image.answer(connection, &manners).ok());
        }
    });
    Ok(digest)
}

impl Image {
    /// One request, and the connection is closed.
    fn answer(&self, mut connection: TcpStream, manners: &Manners) -> Result<()> {
        let mut lines = BufReader::new(connection.try_clone()?).lines();
        let request = lines.next().context("no request")??;
        let mut authorized = manners.authorization.is_none();
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            let header = line.split_once(": ");
            authorized |= header.is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("authorization")
                    && manners.authorization.as_deref() == Some(value)
            });
        }
        thread::sleep(manners.delay);
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (status, extra, body) = match self.body(path) {
            _ if !authorized => ("401 Unauthorized", CHALLENGE, Vec::new()),
            Some(body) => ("200 OK", "", body),
            None => ("404 Not Found", "", Vec::new()),
        };
        let length = body.len();
        let kind = match path.contains("/manifests/") {
            true => MANIFEST,
            false => "application/octet-stream",
        };
        write!(
            connection,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{extra}Connection: close\r\n\r\n"
        )?;
        if method != "HEAD" {
            connection.write_all(&body)?;
        }
        Ok(())
    }

    fn body(&self, path: &str) -> Option<Vec<u8>> {
        let blob = |digest: &str| {
            let name = digest.strip_prefix("sha256:")?;
            fs::read(self.layout.join("blobs/sha256").join(name)).ok()
        };
        match path.trim_end_matches('/').rsplit('/').next()? {
            "v2" => Some(b"{}".to_vec()),
            digest if path.contains("/blobs/") => blob(digest),
            _ if path.contains("/manifests/") => blob(&self.digest),
            _ => None,
        }
    }
}
