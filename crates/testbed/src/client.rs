//! Real clients: mTLS, TLS without a certificate, or plaintext; HTTP/1.1 or raw bytes; one
//! exchange or a connection that stays open.
//!
//! In TLS 1.3 a client's handshake ends before the server has judged its certificate: a refusal
//! shows as an error of the first exchange, not of the connect.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::client::conn::http2;
use hyper::header::{HOST, HeaderMap};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::runtime::{block_on, spawn};
use crate::rustls_form::{handshake_key, root_store};
use crate::{Identity, TlsVersion, TrustBundle};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How to connect to a port of 127.0.0.1. Settings only: each call makes a new connection.
#[derive(Clone, Debug)]
pub struct Client {
    tls: Option<Tls>,
    resets: bool,
    address: IpAddr,
}

#[derive(Clone, Debug)]
struct Tls {
    identity: Option<Identity>,
    version: TlsVersion,
    trust: Option<TrustBundle>,
    server_name: String,
    /// Kept by clients that resume sessions, for rustls keeps the sessions in it.
    config: Option<Arc<ClientConfig>>,
}

impl Client {
    /// A client without TLS.
    pub fn plaintext() -> Self {
        Self {
            tls: None,
            resets: false,
            address: LOCALHOST,
        }
    }

    /// The same; its connections end with a reset, as those of many health checks.
    pub fn resetting(mut self) -> Self {
        self.resets = true;
        self
    }

    /// A TLS 1.3 client without a certificate that accepts any server.
    pub fn tls() -> Self {
        let tls = Tls {
            identity: None,
            version: TlsVersion::V1_3,
            trust: None,
            server_name: "localhost".to_owned(),
            config: None,
        };
        Self {
            tls: Some(tls),
            resets: false,
            address: LOCALHOST,
        }
    }

    /// A TLS 1.3 client that presents `identity`, however unsound, and accepts any server.
    pub fn mtls(identity: &Identity) -> Self {
        Self::tls().with(|tls| tls.identity = Some(identity.clone()))
    }

    /// The same client, connecting from 127.0.0.`number`: another workload instance.
    pub fn replica(mut self, number: u8) -> Self {
        self.address = IpAddr::from([127, 0, 0, number]);
        self
    }

    /// The same client on this TLS version only. No effect on a plaintext client.
    pub fn version(self, version: TlsVersion) -> Self {
        self.with(|tls| tls.version = version)
    }

    /// The same client, refusing servers whose certificate is not from `trust` or does not name
    /// `server_name` as a DNS SAN. No effect on a plaintext client.
    pub fn verifying(self, trust: &TrustBundle, server_name: &str) -> Self {
        self.with(|tls| {
            tls.trust = Some(trust.clone());
            tls.server_name = server_name.to_owned();
        })
    }

    /// The same client, resuming TLS sessions from one connection to the next, as real ones do;
    /// others make a full handshake each time. No effect on a plaintext client.
    ///
    /// # Errors
    /// If the TLS settings are not usable.
    pub fn resuming(mut self) -> Result<Self> {
        if let Some(tls) = &mut self.tls {
            let mut config = tls.build()?;
            config.resumption = Resumption::in_memory_sessions(16);
            tls.config = Some(Arc::new(config));
        }
        Ok(self)
    }

    /// Sends one GET request on a connection of its own.
    ///
    /// # Errors
    /// If connecting, the handshake or the exchange fails; the peer's TLS alert is in the text.
    pub fn get(&self, port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
        self.http(port)?.get(path, headers)
    }

    /// Opens a keep-alive HTTP/1.1 connection.
    ///
    /// # Errors
    /// If connecting or the client's part of the handshake fails.
    pub fn http(&self, port: u16) -> Result<HttpConnection> {
        block_on(&format!("HTTP connection to port {port}"), async {
            let (stream, _) = self.connect(port).await?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            Ok(HttpConnection {
                sender,
                driver: spawn(connection),
            })
        })
    }

    /// Opens an HTTP/2 connection, on which there may be several requests at a time.
    ///
    /// # Errors
    /// If connecting or the client's part of the handshake fails.
    pub fn http2(&self, port: u16) -> Result<Http2Connection> {
        block_on(&format!("HTTP/2 connection to port {port}"), async {
            let (stream, _) = self.connect(port).await?;
            let io = TokioIo::new(stream);
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            spawn(connection);
            Ok(Http2Connection(sender))
        })
    }

    /// Opens a connection for raw bytes.
    ///
    /// # Errors
    /// If connecting or the client's part of the handshake fails.
    pub fn tcp(&self, port: u16) -> Result<TcpConnection> {
        block_on(&format!("TCP connection to port {port}"), async {
            let (stream, session) = self.connect(port).await?;
            Ok(TcpConnection { stream, session })
        })
    }

    /// The first message of a handshake, to send only part of one; empty for a plaintext client.
    ///
    /// # Errors
    /// If the TLS settings are not usable.
    pub fn hello(&self) -> Result<Vec<u8>> {
        let mut hello = Vec::new();
        if let Some(tls) = &self.tls {
            let name = ServerName::try_from(tls.server_name.clone())?;
            ClientConnection::new(tls.config()?, name)?.write_tls(&mut hello)?;
        }
        Ok(hello)
    }

    /// What rustls connects with, for callers that do their own; `None` for a plaintext client.
    ///
    /// # Errors
    /// If the TLS settings are not usable.
    pub fn tls_config(&self) -> Result<Option<Arc<ClientConfig>>> {
        self.tls.as_ref().map(Tls::config).transpose()
    }

    fn with(mut self, change: impl FnOnce(&mut Tls)) -> Self {
        if let Some(tls) = &mut self.tls {
            change(tls);
            tls.config = None;
        }
        self
    }

    async fn connect(&self, port: u16) -> Result<(Box<dyn Stream>, Session)> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.address, 0))?;
        let tcp = socket.connect(SocketAddr::new(LOCALHOST, port)).await?;
        tcp.set_nodelay(true)?;
        if self.resets {
            tcp.set_zero_linger()?;
        }
        let Some(tls) = &self.tls else {
            return Ok((Box::new(tcp), Session::default()));
        };
        let name = ServerName::try_from(tls.server_name.clone())?;
        let connector = TlsConnector::from(tls.config()?);
        let stream = connector.connect(name, tcp).await?;
        let session = Session::of(stream.get_ref().1);
        Ok((Box::new(stream), session))
    }
}

impl Tls {
    fn config(&self) -> Result<Arc<ClientConfig>> {
        match &self.config {
            Some(config) => Ok(config.clone()),
            None => Ok(Arc::new(self.build()?)),
        }
    }

    fn build(&self) -> Result<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[self.version.rustls()])?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_cert_resolver(certified_key(identity)?),
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>> {
        let Some(trust) = &self.trust else {
            return Ok(Arc::new(AcceptAnyServer));
        };
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(root_store(trust)?);
        Ok(WebPkiServerVerifier::builder_with_provider(roots, provider).build()?)
    }
}

/// The identity as rustls presents it: unchecked, since rustls would refuse to present a
/// certificate that it cannot make sense of.
pub(crate) fn certified_key(identity: &Identity) -> Result<Arc<SingleCertAndKey>> {
    let key = handshake_key(identity.key())?;
    let certified = CertifiedKey::new(identity.chain(), key);
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

/// An open HTTP/1.1 connection.
#[derive(Debug)]
pub struct HttpConnection {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl HttpConnection {
    /// Sends a GET request with these headers besides `Host` and reads the whole response.
    ///
    /// # Errors
    /// If the connection is closed, or nothing came back in ten seconds.
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
        self.request("GET", path, headers)
    }

    /// The same with another method. No body is sent.
    ///
    /// # Errors
    /// As [`HttpConnection::get`].
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new())?;
        block_on(&format!("{method} {path}"), self.exchange(request))
    }

    async fn exchange(&mut self, request: Request<Empty<Bytes>>) -> Result<Response> {
        match self.send(request).await {
            // Closed between two requests: only the driver of the connection knows why.
            Err(error) if error.is_closed() || error.is_canceled() => {
                (&mut self.driver).await??;
                Err(error.into())
            }
            response => Ok(response?),
        }
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }
}

/// An open HTTP/2 connection.
#[derive(Debug)]
pub struct Http2Connection(http2::SendRequest<Empty<Bytes>>);

impl Http2Connection {
    /// Sends a GET request with these headers, and reads the response's headers only.
    ///
    /// # Errors
    /// If the connection is closed, or nothing came back in ten seconds.
    pub fn begin(&mut self, headers: &[(&str, &str)]) -> Result<PendingResponse> {
        let mut request = Request::builder().uri("http://localhost/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new())?;
        block_on("GET / over HTTP/2", async {
            self.0.ready().await?;
            Ok(PendingResponse(self.0.send_request(request).await?))
        })
    }
}

/// An HTTP/2 response whose body is still to come.
#[derive(Debug)]
pub struct PendingResponse(hyper::Response<Incoming>);

impl PendingResponse {
    /// Reads it to its end.
    ///
    /// # Errors
    /// If the body is not complete in ten seconds.
    pub fn finish(self) -> Result<Response> {
        let (head, body) = self.0.into_parts();
        block_on("an HTTP/2 body", async {
            Ok(Response {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.collect().await?.to_bytes(),
            })
        })
    }
}

/// An HTTP response, read to its end.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// A header's first value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// If it is not JSON; the error shows it.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {}, not JSON: {}", self.status, self.text()))
    }
}

/// An open connection for raw bytes.
pub struct TcpConnection {
    stream: Box<dyn Stream>,
    session: Session,
}

impl TcpConnection {
    /// The server's leaf; `None` without TLS.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.session.peer_certificate.as_ref()
    }

    /// Whether the handshake resumed an earlier session, and no certificate was sent.
    pub fn resumed(&self) -> bool {
        self.session.resumed
    }

    /// Sends `bytes`.
    ///
    /// # Errors
    /// If the connection is closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        block_on("send", async {
            self.stream.write_all(bytes).await?;
            Ok(self.stream.flush().await?)
        })
    }

    /// Waits for exactly `length` bytes.
    ///
    /// # Errors
    /// If the connection ends before, with the peer's TLS alert in the text, or nothing came in
    /// ten seconds.
    pub fn receive(&mut self, length: usize) -> Result<Vec<u8>> {
        block_on("receive", async {
            let mut bytes = vec![0; length];
            self.stream.read_exact(&mut bytes).await?;
            Ok(bytes)
        })
    }

    /// Sends `bytes` and checks that they come back.
    ///
    /// # Errors
    /// As [`TcpConnection::send`] and [`TcpConnection::receive`], and if other bytes came back.
    pub fn echo(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(bytes)?;
        let back = self.receive(bytes.len())?;
        ensure!(back == bytes, "sent {bytes:?}, got {back:?} back");
        Ok(())
    }

    /// Waits until the peer has closed the connection, in whatever manner, and returns what it
    /// had still sent.
    ///
    /// # Errors
    /// If it is still open after ten seconds.
    pub fn closed_by_peer(&mut self) -> Result<Vec<u8>> {
        block_on("wait for the peer to close", async {
            let mut rest = Vec::new();
            // A reset closes as well as an orderly end.
            let _ = self.stream.read_to_end(&mut rest).await;
            Ok(rest)
        })
    }
}

/// What a handshake came to.
#[derive(Debug, Default)]
struct Session {
    peer_certificate: Option<CertificateDer<'static>>,
    resumed: bool,
}

impl Session {
    fn of(connection: &ClientConnection) -> Self {
        let chain = connection.peer_certificates();
        Self {
            peer_certificate: chain.and_then(|chain| chain.first().cloned()),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[derive(Debug)]
struct AcceptAnyServer;

impl ServerCertVerifier for AcceptAnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
