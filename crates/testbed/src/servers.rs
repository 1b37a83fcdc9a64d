//! Small upstreams inside the test's own process: an HTTP server that echoes the request it got,
//! a TCP echo, a TCP server that speaks first, one that does what it is told; each in plaintext, TLS
//! or mTLS.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::client::{Stream, certified_key};
use crate::runtime::{block_on, spawn};
use crate::rustls_form::root_store;
use crate::{Identity, TlsVersion, TrustBundle};

/// The TLS side of a server.
#[derive(Clone, Debug)]
pub struct ServerTls {
    identity: Identity,
    client_trust: Option<TrustBundle>,
    versions: Vec<TlsVersion>,
}

impl ServerTls {
    /// TLS 1.2 and 1.3 with this identity, however unsound; asks for no client certificate.
    pub fn new(identity: &Identity) -> Self {
        Self {
            identity: identity.clone(),
            client_trust: None,
            versions: vec![TlsVersion::V1_3, TlsVersion::V1_2],
        }
    }

    /// The same, requiring a client certificate that `trust` vouches for (mTLS).
    pub fn requiring_client_certificate(mut self, trust: &TrustBundle) -> Self {
        self.client_trust = Some(trust.clone());
        self
    }

    /// The same, on this TLS version only.
    pub fn version(mut self, version: TlsVersion) -> Self {
        self.versions = vec![version];
        self
    }

    fn config(&self) -> Result<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let versions: Vec<_> = self.versions.iter().map(|v| v.rustls()).collect();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)?;
        let builder = match &self.client_trust {
            None => builder.with_no_client_auth(),
            Some(trust) => {
                let roots = Arc::new(root_store(trust)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build()?)
            }
        };
        Ok(builder.with_cert_resolver(certified_key(&self.identity)?))
    }
}

/// How connections are secured; `None`: in plaintext.
type Security = Option<Arc<ServerConfig>>;

/// What a server says on a connection.
#[derive(Clone, Debug)]
enum Protocol {
    HttpEcho,
    TcpEcho { banner: Bytes },
    Script(Arc<[Step]>),
}

/// One thing that the server of [`Server::script`] does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Waits until something comes, or nothing more will.
    Receive,
    /// Waits until nothing more will come.
    ReceiveAll,
    /// Sends this.
    Send(&'static [u8]),
    /// Does nothing for so long.
    Wait(Duration),
    /// Says that it will send nothing more, in TLS with `close_notify`.
    Finish,
    /// Closes with a reset when it comes to that, as a server that is overloaded or killed.
    Reset,
}

/// A running server on a port of its own. Dropping it closes the port; open connections go on.
#[derive(Debug)]
pub struct Server {
    port: u16,
    tls: Arc<Mutex<Security>>,
    protocol: Arc<Mutex<Protocol>>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// An HTTP/1.1 server that answers 200 and, as JSON, the request:
    /// `{"method": "GET", "path": "/", "headers": {"host": "…"}}`; values of a repeated header
    /// are joined with `, `.
    ///
    /// # Errors
    /// If no port can be had, or the TLS settings are not usable.
    pub fn http_echo(tls: Option<ServerTls>) -> Result<Self> {
        Self::start(Protocol::HttpEcho, tls)
    }

    /// The same on this port of 127.0.0.1.
    ///
    /// # Errors
    /// As [`Server::http_echo`], and if the port is taken.
    pub fn http_echo_at(port: u16, tls: Option<ServerTls>) -> Result<Self> {
        Self::start_at(port, Protocol::HttpEcho, tls)
    }

    /// A TCP server that sends back whatever it gets.
    ///
    /// # Errors
    /// As [`Server::http_echo`].
    pub fn tcp_echo(tls: Option<ServerTls>) -> Result<Self> {
        Self::server_first(b"", tls)
    }

    /// A TCP server that sends `banner` before it has got anything, and then echoes.
    ///
    /// # Errors
    /// As [`Server::http_echo`].
    pub fn server_first(banner: &[u8], tls: Option<ServerTls>) -> Result<Self> {
        let banner = Bytes::copy_from_slice(banner);
        Self::start(Protocol::TcpEcho { banner }, tls)
    }

    /// A server that does these steps on every connection, and then closes it without another word.
    ///
    /// # Errors
    /// As [`Server::http_echo`].
    pub fn script(steps: &[Step], tls: Option<ServerTls>) -> Result<Self> {
        Self::start(Protocol::Script(steps.into()), tls)
    }

    /// The same on this port of 127.0.0.1.
    ///
    /// # Errors
    /// As [`Server::http_echo_at`].
    pub fn script_at(port: u16, steps: &[Step], tls: Option<ServerTls>) -> Result<Self> {
        Self::start_at(port, Protocol::Script(steps.into()), tls)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves new connections this way from now on, as after a rotation. Sessions of before are
    /// not resumed.
    ///
    /// # Errors
    /// If the TLS settings are not usable.
    pub fn present(&self, tls: &ServerTls) -> Result<()> {
        *lock(&self.tls) = Some(Arc::new(tls.config()?));
        Ok(())
    }

    /// Does these steps on new connections from now on, whatever it did before.
    pub fn follow(&self, steps: &[Step]) {
        *lock(&self.protocol) = Protocol::Script(steps.into());
    }

    fn start(protocol: Protocol, tls: Option<ServerTls>) -> Result<Self> {
        Self::start_at(0, protocol, tls)
    }

    fn start_at(port: u16, protocol: Protocol, tls: Option<ServerTls>) -> Result<Self> {
        let config = tls.map(|tls| tls.config()).transpose()?;
        let tls = Arc::new(Mutex::new(config.map(Arc::new)));
        let protocol = Arc::new(Mutex::new(protocol));
        let listener = block_on("listen", async {
            Ok(TcpListener::bind(("127.0.0.1", port)).await?)
        })?;
        Ok(Self {
            port: listener.local_addr()?.port(),
            accepting: spawn(accept_all(listener, tls.clone(), protocol.clone())),
            tls,
            protocol,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept_all(
    listener: TcpListener,
    tls: Arc<Mutex<Security>>,
    protocol: Arc<Mutex<Protocol>>,
) {
    while let Ok((tcp, _)) = listener.accept().await {
        let acceptor = lock(&tls).clone().map(TlsAcceptor::from);
        let protocol = lock(&protocol).clone();
        // A connection that fails concerns nobody but its client, who sees it.
        tokio::spawn(async move { drop(serve(tcp, acceptor, protocol).await) });
    }
}

async fn serve(tcp: TcpStream, acceptor: Option<TlsAcceptor>, protocol: Protocol) -> Result<()> {
    tcp.set_nodelay(true)?;
    if let Protocol::Script(steps) = &protocol
        && steps.iter().any(|step| matches!(step, Step::Reset))
    {
        tcp.set_zero_linger()?;
    }
    let stream: Box<dyn Stream> = match acceptor {
        None => Box::new(tcp),
        Some(acceptor) => Box::new(acceptor.accept(tcp).await?),
    };
    match protocol {
        Protocol::HttpEcho => serve_http(stream).await,
        Protocol::TcpEcho { banner } => serve_tcp(stream, &banner).await,
        Protocol::Script(steps) => follow(stream, &steps).await,
    }
}

async fn serve_http(stream: Box<dyn Stream>) -> Result<()> {
    let service = service_fn(|request| async move { Ok::<_, Infallible>(echo(&request)) });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    Ok(connection.await?)
}

async fn serve_tcp(mut stream: Box<dyn Stream>, banner: &[u8]) -> Result<()> {
    stream.write_all(banner).await?;
    stream.flush().await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(stream.shutdown().await?);
        }
        stream.write_all(&buffer[..length]).await?;
        stream.flush().await?;
    }
}

async fn follow(mut stream: Box<dyn Stream>, steps: &[Step]) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    for step in steps {
        match step {
            Step::Receive => drop(stream.read(&mut buffer).await?),
            Step::ReceiveAll => while stream.read(&mut buffer).await? > 0 {},
            Step::Send(bytes) => {
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
            Step::Wait(duration) => tokio::time::sleep(*duration).await,
            Step::Finish => stream.shutdown().await?,
            Step::Reset => {}
        }
    }
    Ok(())
}

fn echo(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut headers = Map::new();
    for name in request.headers().keys() {
        let values = request.headers().get_all(name).into_iter();
        let values: Vec<_> = values
            .map(|v| String::from_utf8_lossy(v.as_bytes()))
            .collect();
        headers.insert(name.to_string(), Value::from(values.join(", ")));
    }
    let body = json!({
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "headers": headers,
    });
    Response::new(Full::from(body.to_string()))
}
