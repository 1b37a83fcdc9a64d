//! Two Envoys as sidecars of each other, the servers around them, and the traffic.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use testbed::envoy::free_port;
use testbed::progress::Progress;
use testbed::servers::ServerTls;
use testbed::{Client, Envoy, Sample, Server};

use crate::workloads::{CART, REQUESTS, REQUESTS_KEPT_ALIVE, Role, WEB, Workload};

/// Worker threads of each Envoy: more than one, as in real life.
const WORKERS: u32 = 2;

/// Envoy's answer where it could not reach the server.
const UNAVAILABLE: u16 = 503;

/// What the sample has for a service that its application calls.
const CALLED_SERVICE: [&str; 4] = ["outbound_http", "peer_http", "outbound_tcp", "peer_tcp"];

/// The ports of something that speaks HTTP on one and raw TCP on the other.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// HTTP/1.1.
    pub http: u16,
    /// TCP.
    pub tcp: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        Ok(Self {
            http: free_port()?,
            tcp: free_port()?,
        })
    }
}

/// A running sidecar.
pub struct Sidecar {
    /// The workload that it belongs to.
    pub name: &'static str,
    /// The process.
    pub envoy: Envoy,
    /// Where peers connect, with mTLS.
    pub inbound: Ports,
}

impl Sidecar {
    /// Where its application connects to call the other sidecar, or the service of that suffix.
    fn outbound(&self, suffix: &str) -> Result<Ports> {
        let port = |listener: &str| self.envoy.listener_port(&format!("{listener}{suffix}"));
        Ok(Ports {
            http: port("outbound_http")?,
            tcp: port("outbound_tcp")?,
        })
    }
}

/// Servers of both protocols that have no sidecar.
struct Service {
    http: Server,
    tcp: Server,
}

impl Service {
    fn start(tls: Option<ServerTls>) -> Result<Self> {
        Ok(Self {
            http: Server::http_echo(tls.clone())?,
            tcp: Server::tcp_echo(tls)?,
        })
    }

    fn ports(&self) -> Ports {
        Ports {
            http: self.http.port(),
            tcp: self.tcp.port(),
        }
    }
}

/// All that runs. Dropping it ends it.
pub struct Mesh {
    web: Sidecar,
    cart: Sidecar,
    /// What the sidecars deliver to, and the servers that they call.
    _services: Vec<Service>,
}

impl Mesh {
    /// Starts everything. The certificates of the sidecars are below `directory`, by name. The
    /// sidecars can call these servers, which have no sidecar, by name.
    pub fn start(
        servers: impl IntoIterator<Item = (&'static str, ServerTls)>,
        directory: &Path,
        progress: &Progress,
    ) -> Result<Self> {
        let application = Service::start(None)?;
        let mut services = Vec::new();
        let mut called = Vec::new();
        for (name, tls) in servers {
            let service = Service::start(Some(tls))?;
            called.push((suffix(name), service.ports()));
            services.push(service);
        }
        let (web, cart) = (Ports::free()?, Ports::free()?);
        let start = |name: &'static str, inbound: Ports, peer: Ports| {
            progress.step(&format!("starting an Envoy as the sidecar of {name}"))?;
            let sample = Sample::local("sidecar.yaml", &directory.join(name))?
                .listen("inbound_http", inbound.http)
                .listen("inbound_tcp", inbound.tcp);
            let sample = leads_to(sample, ["app_http", "app_tcp"], application.ports());
            let sample = leads_to(sample, ["peer_http", "peer_tcp"], peer);
            let envoy = called.iter().fold(sample, calls).start(WORKERS)?;
            anyhow::Ok(Sidecar {
                name,
                envoy,
                inbound,
            })
        };
        let (web, cart) = (start(WEB, web, cart)?, start(CART, cart, web)?);
        services.push(application);
        Ok(Self {
            web,
            cart,
            _services: services,
        })
    }

    /// The sidecars.
    pub fn sidecars(&self) -> [&Sidecar; 2] {
        [&self.web, &self.cart]
    }

    /// The sidecar that clients without one call.
    pub fn called(&self) -> &Sidecar {
        &self.cart
    }

    /// Real traffic in which `workload` shows its certificate. Returns how many requests the
    /// sidecars have judged then: where one calls the other, both judge each.
    pub fn drive(&self, workload: &Workload) -> Result<u64> {
        let application = Client::plaintext();
        match workload.role {
            Role::Sidecar => {
                let mut sidecars = self.sidecars().into_iter();
                let own = sidecars.find(|sidecar| sidecar.name == workload.name);
                talk(&application, own.context("no sidecar")?.outbound("")?)?;
                Ok(2 * REQUESTS)
            }
            Role::Client => {
                talk(&Client::mtls(&workload.identity), self.called().inbound)?;
                Ok(REQUESTS)
            }
            Role::Server => {
                talk(&application, self.web.outbound(&suffix(workload.name))?)?;
                Ok(REQUESTS)
            }
        }
    }

    /// A request of a client that a sidecar is to refuse.
    ///
    /// # Errors
    /// If it is answered.
    pub fn refuses(&self, client: &Client) -> Result<()> {
        let response = client.get(self.called().inbound.http, "/", &[]);
        ensure!(response.is_err(), "the client was not refused");
        Ok(())
    }

    /// A request to the server of that name, which cannot come to be: the sidecar is to refuse the
    /// server, or the server the sidecar.
    ///
    /// # Errors
    /// If the server answers it.
    pub fn cannot_call(&self, server: &str) -> Result<()> {
        let port = self.web.outbound(&suffix(server))?.http;
        let status = Client::plaintext().get(port, "/", &[])?.status;
        ensure!(status == UNAVAILABLE, "HTTP {status}");
        Ok(())
    }
}

/// [`REQUESTS`] requests over two connections, and a conversation over TCP.
fn talk(client: &Client, ports: Ports) -> Result<()> {
    let mut kept_alive = client.http(ports.http)?;
    for _ in 0..REQUESTS_KEPT_ALIVE {
        let response = kept_alive.get("/", &[])?;
        ensure!(response.status == 200, "HTTP {}", response.status);
    }
    let response = client.get(ports.http, "/", &[])?;
    ensure!(response.status == 200, "HTTP {}", response.status);
    let mut tcp = client.tcp(ports.tcp)?;
    tcp.echo(b"hello")?;
    tcp.echo(b"and again")
}

fn suffix(server: &str) -> String {
    format!("-{server}")
}

/// The sidecar's application also calls the service of that suffix, which is at these ports.
fn calls(sample: Sample, (suffix, ports): &(String, Ports)) -> Sample {
    let sample = sample.with_copies(&CALLED_SERVICE, suffix);
    let clusters = ["peer_http", "peer_tcp"].map(|cluster| format!("{cluster}{suffix}"));
    leads_to(sample, clusters.each_ref().map(String::as_str), *ports)
}

fn leads_to(sample: Sample, [http, tcp]: [&str; 2], ports: Ports) -> Sample {
    sample.upstream(http, ports.http).upstream(tcp, ports.tcp)
}
