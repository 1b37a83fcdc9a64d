//! The load: HTTP/1.1 over mTLS, as little work a request as can be, for it shares the machine with
//! the Envoy under test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::variants::BODY;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// Connections that are being opened at the same time.
const OPENING: usize = 4;

/// Who connects: one TLS configuration for each client certificate.
pub type Clients = [Arc<ClientConfig>];

/// An open connection.
pub type Stream = TlsStream<TcpStream>;

/// One thread that sends.
pub struct Load {
    runtime: Runtime,
}

impl Load {
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self { runtime })
    }

    /// Opens as many keep-alive connections as there are clients, each with a request.
    pub fn open(&self, port: u16, clients: &Clients) -> Result<Vec<Stream>> {
        self.runtime.block_on(async {
            let mut streams = Vec::new();
            for client in clients {
                let mut stream = connect(port, client.clone()).await?;
                exchange(&mut stream).await?;
                streams.push(stream);
            }
            Ok(streams)
        })
    }

    /// Sends `requests` requests on each of the connections, on all of them at the same time.
    pub fn keep_alive(&self, streams: Vec<Stream>, requests: usize) -> Result<Vec<Stream>> {
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            for mut stream in streams {
                running.spawn(async move {
                    for _ in 0..requests {
                        exchange(&mut stream).await?;
                    }
                    anyhow::Ok(stream)
                });
            }
            let mut streams = Vec::new();
            while let Some(done) = running.join_next().await {
                streams.push(done??);
            }
            Ok(streams)
        })
    }

    /// Opens a connection for each client in turn, sends one request and closes it; a full handshake
    /// each time.
    pub fn reconnect(&self, port: u16, clients: Vec<Arc<ClientConfig>>) -> Result<()> {
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            for client in clients {
                if running.len() >= OPENING
                    && let Some(done) = running.join_next().await
                {
                    done??;
                }
                running.spawn(once(port, client));
            }
            while let Some(done) = running.join_next().await {
                done??;
            }
            Ok(())
        })
    }

    /// Sends requests on one connection, one every `period`. The latency of each counts from when it
    /// was due, so that one that is late makes the next ones late.
    pub fn latencies(
        &self,
        stream: &mut Stream,
        period: Duration,
        requests: u32,
    ) -> Result<Vec<Duration>> {
        self.runtime.block_on(async {
            let start = Instant::now();
            let mut latencies = Vec::new();
            for number in 0..requests {
                let due = start + period * number;
                // A timer of the runtime is a thousand times too coarse.
                while Instant::now() < due {
                    std::hint::spin_loop();
                }
                exchange(stream).await?;
                latencies.push(due.elapsed());
            }
            Ok(latencies)
        })
    }
}

async fn connect(port: u16, client: Arc<ClientConfig>) -> Result<Stream> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(client).connect(name, tcp).await?)
}

async fn once(port: u16, client: Arc<ClientConfig>) -> Result<()> {
    let mut stream = connect(port, client).await?;
    stream.write_all(LAST_REQUEST).await?;
    read_response(&mut stream).await?;
    Ok(stream.shutdown().await?)
}

async fn exchange(stream: &mut Stream) -> Result<()> {
    stream.write_all(REQUEST).await?;
    read_response(stream).await
}

async fn read_response(stream: &mut Stream) -> Result<()> {
    let mut buffer = [0; 2048];
    let mut length = 0;
    while !buffer[..length].ends_with(BODY.as_bytes()) {
        let rest = buffer.get_mut(length..).context("a long response")?;
        let read = stream.read(rest).await?;
        ensure!(read > 0, "closed in mid-response");
        length += read;
    }
    let response = &buffer[..length];
    ensure!(
        response.starts_with(OK),
        "{}",
        String::from_utf8_lossy(response)
    );
    Ok(())
}
