//! HTTP to what answers for a proxy or for many: an admin interface, a Prometheus.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider};

/// Longest reply. The dump of a gateway with ten thousand clusters has some hundred MB.
const MAX_REPLY_BYTES: u64 = 512 * 1024 * 1024;

/// Where a system has the CAs that it trusts.
const SYSTEM_CAS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// How to ask a server that is guarded.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Access {
    /// Header to send with every request, such as "authorization: Bearer TOKEN"; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// For https: PEM with the CAs of the server; without it, those of the system
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    /// For https: PEM with the client certificate, and its key if --client-key is not given
    #[arg(long, value_name = "FILE")]
    client_cert: Option<String>,
    /// For https: PEM with the key of the client certificate
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<String>,
    /// File with a bearer token
    #[arg(long, value_name = "FILE")]
    bearer_token_file: Option<String>,
    /// File with USER:PASSWORD for basic authentication
    #[arg(long, value_name = "FILE", conflicts_with = "bearer_token_file")]
    basic_auth_file: Option<String>,
}

/// Why there is no reply.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    #[error("{0}: {1}")]
    Content(String, &'static str),
    #[error("--header {0:?}: expected \"NAME: VALUE\"")]
    Header(String),
    #[error("{url}: {error}")]
    Reply {
        url: String,
        error: Box<ureq::Error>,
    },
    #[error("{url}: no answer within {} s", limit.as_secs())]
    TimedOut { url: String, limit: Duration },
    #[error("{url}: {status}: {text}")]
    Status {
        url: String,
        status: u16,
        text: String,
    },
}

/// A client with its settings.
#[derive(Debug)]
pub(crate) struct Http {
    agent: ureq::Agent,
    headers: Vec<(String, String)>,
    timeout: Duration,
}

impl Http {
    /// With the files of `access` read.
    ///
    /// # Errors
    /// [`HttpError`] names the file that cannot be read, or the header that is none.
    pub(crate) fn new(access: &Access, timeout: Duration) -> Result<Self, HttpError> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .user_agent(concat!("mtls-watch/", env!("CARGO_PKG_VERSION")))
            // What is named is asked itself, whatever http_proxy says.
            .proxy(None)
            .http_status_as_error(false)
            .tls_config(tls(access)?)
            .build()
            .new_agent();
        Ok(Self {
            agent,
            headers: headers(access)?,
            timeout,
        })
    }

    /// The body of a reply with status 200.
    ///
    /// # Errors
    /// [`HttpError`], with what the server says.
    pub(crate) fn get(&self, url: &str) -> Result<Vec<u8>, HttpError> {
        let fail = |error| match error {
            ureq::Error::Timeout(_) => HttpError::TimedOut {
                url: url.to_owned(),
                limit: self.timeout,
            },
            error => HttpError::Reply {
                url: url.to_owned(),
                error: Box::new(error),
            },
        };
        let mut request = self.agent.get(url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut response = request.call().map_err(fail)?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_REPLY_BYTES);
        let body = body.read_to_vec().map_err(fail)?;
        match status {
            200 => Ok(body),
            status => Err(HttpError::Status {
                url: url.to_owned(),
                status,
                text: first_line(&body),
            }),
        }
    }
}

/// What a server says in one line.
fn first_line(body: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default().trim();
    let line: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST)
        .collect();
    match line.is_empty() {
        true => "no text".to_owned(),
        false => line,
    }
}

fn headers(access: &Access) -> Result<Vec<(String, String)>, HttpError> {
    let mut headers = Vec::new();
    for header in &access.headers {
        let pair = header
            .split_once(':')
            .filter(|(name, _)| !name.trim().is_empty());
        let (name, value) = pair.ok_or_else(|| HttpError::Header(header.clone()))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    if let Some(file) = &access.bearer_token_file {
        headers.push((
            "authorization".to_owned(),
            format!("Bearer {}", secret(file)?),
        ));
    }
    if let Some(file) = &access.basic_auth_file {
        let encoded = base64_of(secret(file)?.as_bytes());
        headers.push(("authorization".to_owned(), format!("Basic {encoded}")));
    }
    Ok(headers)
}

fn secret(file: &str) -> Result<String, HttpError> {
    let text = fs::read_to_string(file).map_err(|error| HttpError::File(file.to_owned(), error))?;
    Ok(text.trim().to_owned())
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn tls(access: &Access) -> Result<TlsConfig, HttpError> {
    let builder = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::Specific(Arc::new(roots(access)?)))
        .client_cert(client(access)?)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    Ok(builder.build())
}

fn roots(access: &Access) -> Result<Vec<Certificate<'static>>, HttpError> {
    match &access.ca_file {
        Some(file) => {
            let roots = certificates(&pem(file)?);
            match roots.is_empty() {
                true => Err(HttpError::Content(file.clone(), "no PEM certificate in it")),
                false => Ok(roots),
            }
        }
        None => Ok(SYSTEM_CAS
            .iter()
            .find_map(|file| fs::read(file).ok())
            .map(|pem| certificates(&pem))
            .unwrap_or_default()),
    }
}

fn client(access: &Access) -> Result<Option<ClientCert>, HttpError> {
    let Some(file) = &access.client_cert else {
        return Ok(None);
    };
    let key_file = access.client_key.as_ref().unwrap_or(file);
    let chain = certificates(&pem(file)?);
    if chain.is_empty() {
        return Err(HttpError::Content(file.clone(), "no PEM certificate in it"));
    }
    let key = PrivateKey::from_pem(&pem(key_file)?)
        .map_err(|_| HttpError::Content(key_file.clone(), "no PEM private key in it"))?;
    Ok(Some(ClientCert::new_with_certs(&chain, key)))
}

fn pem(file: &str) -> Result<Vec<u8>, HttpError> {
    fs::read(file).map_err(|error| HttpError::File(file.to_owned(), error))
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    let items = ureq::tls::parse_pem(pem).filter_map(Result::ok);
    items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect()
}
