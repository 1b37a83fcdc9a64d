//! A small mesh in which something of everything is wrong, and a Prometheus that scrapes it: what the
//! alerts, the dashboard and its picture are tried on.
//!
//! `web` and `cart` in the namespace `shop` are sound, and so is whom they meet: no alert may name
//! them. The others are there to be alerted on.

use std::fs;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::envoy::free_port;
use crate::servers::ServerTls;
use crate::{Ca, Client, Envoy, Prometheus, Sample, Server, TrustBundle, workspace_root};
use pki::{CaBuilder, DAY, ExtendedKeyUsage, HOUR, KeyKind, LeafBuilder, Lifetime};

/// The label `cluster` of every scrape.
const CLUSTER: &str = "eu-1";
/// The label `job` of every scrape.
const JOB: &str = "mesh";
/// Where everybody behaves.
pub const SOUND_NAMESPACE: &str = "shop";
/// Where nobody is to come without a certificate.
const STRICT_NAMESPACE: &str = "bank";

/// The rule files that operators load as they are.
pub const RULES: [&str; 5] = [
    "certificates.rules.yaml",
    "handshake.rules.yaml",
    "revocation.rules.yaml",
    "rotation.rules.yaml",
    "watch.rules.yaml",
];

const YEAR: i64 = 365 * DAY;

const POLLING: &str = r#""hierarchy": {"admin_cluster": "prometheus_stats", "interval": "5s"}"#;

/// The certificate authorities, some about to end.
struct Cas {
    root: Ca,
    /// Signs the sound workloads, under an intermediate that is sound as well.
    app: Ca,
    /// About to end, under an intermediate that is as well.
    old: Ca,
    /// A root about to end.
    legacy_root: Ca,
    legacy: Ca,
    /// Under a root of the name of the sound one, that nobody trusts.
    strange: Ca,
}

impl Cas {
    fn issue() -> Result<Self> {
        let of = |builder: CaBuilder, lived: i64, left: i64| {
            builder.lifetime(Lifetime::from_now(-lived, left)).issue()
        };
        let root = of(Ca::root("Root CA"), 2 * YEAR, 8 * YEAR)?;
        let zone = of(root.subordinate("Zone CA"), YEAR, 2 * YEAR)?;
        let app = of(zone.subordinate("App CA"), 90 * DAY, 275 * DAY)?;
        let edge = of(root.subordinate("Edge CA"), 3 * YEAR - 20 * DAY, 20 * DAY)?;
        let old = of(edge.subordinate("Old CA"), YEAR - 5 * DAY, 5 * DAY)?;
        let legacy_root = of(Ca::root("Legacy Root CA"), 10 * YEAR - 60 * DAY, 60 * DAY)?;
        let legacy = of(legacy_root.subordinate("Legacy CA"), 30 * DAY, 50 * DAY)?;
        let strange = Ca::root("Root CA").issue()?.subordinate("App CA").issue()?;
        Ok(Self {
            root,
            app,
            old,
            legacy_root,
            legacy,
            strange,
        })
    }

    fn trust(&self) -> TrustBundle {
        TrustBundle::of([&self.root, &self.legacy_root])
    }
}

/// A proxy of the fleet.
pub struct Proxy {
    /// The label `instance` of its scrape.
    pub name: &'static str,
    /// The label `namespace` of its scrape.
    pub namespace: &'static str,
    /// The process.
    pub envoy: Envoy,
    sample: Sample,
}

impl Proxy {
    fn start(name: &'static str, namespace: &'static str, sample: Sample) -> Result<Self> {
        Ok(Self {
            name,
            namespace,
            envoy: sample.start(1).with_context(|| name.to_owned())?,
            sample,
        })
    }

    fn port(&self, listener: &str) -> Result<u16> {
        self.envoy.listener_port(listener)
    }

    /// Starts it again, at the same address, without the module.
    fn lose_module(&mut self) -> Result<()> {
        // Its address must be free before it can be taken again.
        self.envoy.kill();
        self.envoy = self.sample.clone().without_module().start(1)?;
        Ok(())
    }
}

/// All that runs. Dropping it ends it.
pub struct Fleet {
    cas: Cas,
    clients: Clients,
    web: Proxy,
    cart: Proxy,
    /// Its own certificate, its CAs, its clients and its server: nothing is as it should be.
    legacy: Proxy,
    /// Lets clients in without a certificate at one port and refuses them at the other, and cannot read those that others
    /// have.
    ledger: Proxy,
    /// The end of a tunnel, which cannot read its own certificates either, and whose configuration has an error; with two
    /// plugins.
    waypoint: Proxy,
    /// Loses its module, and is the only one of its namespace.
    night: Proxy,
    _servers: Servers,
    directories: Vec<TempDir>,
}

/// Who calls `legacy`.
struct Clients {
    /// With a certificate that should have been renewed long since.
    stalled: Client,
    accepted: Vec<Client>,
    refused: Vec<Client>,
    sound: Client,
}

impl Clients {
    fn of(cas: &Cas) -> Result<Self> {
        let leaf = |ca: &Ca, name: &str| ca.leaf().uri(&spiffe_id("legacy", name));
        let client = |leaf: LeafBuilder| anyhow::Ok(Client::mtls(&leaf.issue()?));
        let stalled = Lifetime::from_now(-23 * HOUR, HOUR);
        let quarter = Lifetime::from_now(-HOUR, 90 * DAY);
        let strange = leaf(&cas.strange, "search");
        let with_root = leaf(&cas.legacy, "fax").issue()?.with_root();
        Ok(Self {
            stalled: client(leaf(&cas.app, "pay").lifetime(stalled))?,
            accepted: vec![
                Client::mtls(&with_root),
                client(leaf(&cas.old, "invoice").lifetime(quarter))?,
                client(leaf(&cas.app, "printer").key_kind(KeyKind::Rsa1024))?,
            ],
            refused: vec![
                client(strange)?,
                client(leaf(&cas.app, "report").lifetime(Lifetime::days(-2)))?,
                client(
                    leaf(&cas.app, "export").extended_key_usages(&[ExtendedKeyUsage::ServerAuth]),
                )?,
                Client::tls(),
            ],
            sound: Client::mtls(&cas.app.leaf().uri(&spiffe_id("shop", "mobile")).issue()?),
        })
    }
}

/// What the proxies are to be started with.
struct Plan<'a> {
    cas: &'a Cas,
    servers: Servers,
    directories: Vec<TempDir>,
}

/// What the proxies lead to.
struct Servers {
    http: Server,
    tcp: Server,
    /// With a certificate of its own, which does not allow clientAuth.
    archive: Server,
}

impl<'a> Plan<'a> {
    fn of(cas: &'a Cas) -> Result<Self> {
        let archive = cas.app.leaf().uri(&spiffe_id("legacy", "archive"));
        let archive = archive.extended_key_usages(&[ExtendedKeyUsage::ServerAuth]);
        let servers = Servers {
            http: Server::http_echo(None)?,
            tcp: Server::tcp_echo(None)?,
            archive: Server::http_echo(Some(ServerTls::new(&archive.issue()?)))?,
        };
        Ok(Self {
            cas,
            servers,
            directories: Vec::new(),
        })
    }

    /// Two sidecars that call each other.
    fn sound(&mut self) -> Result<[Sample; 2]> {
        let (web, cart) = (free_port()?, free_port()?);
        let mut sidecar = |name, own, peer| {
            let leaf = self.cas.app.leaf().uri(&spiffe_id("shop", name));
            let sample = self.sidecar(leaf, &format!("{{{POLLING}}}"))?;
            let sample = sample.listen("inbound_http", own);
            anyhow::Ok(sample.upstream("peer_http", peer))
        };
        Ok([sidecar("web", web, cart)?, sidecar("cart", cart, web)?])
    }

    fn legacy(&mut self) -> Result<Sample> {
        let leaf = self.cas.old.leaf().uri(&spiffe_id("legacy", "mainframe"));
        let leaf = leaf
            .lifetime(Lifetime::from_now(-23 * HOUR, HOUR))
            .extended_key_usages(&[ExtendedKeyUsage::ServerAuth]);
        let one_name = format!(r#"{{{POLLING}, "identity_series": 1}}"#);
        let sample = self.sidecar(leaf, &one_name)?;
        Ok(sample.upstream("peer_http", self.servers.archive.port()))
    }

    fn ledger(&mut self) -> Result<Sample> {
        let leaf = self.cas.old.leaf().uri(&spiffe_id("bank", "ledger"));
        let leaf = leaf
            .uri("spiffe://two.example/names")
            .lifetime(Lifetime::from_now(-300 * DAY, 6 * DAY));
        let blind = format!(r#"{{{POLLING}, "certificate_sources": ["filter_state"]}}"#);
        let sample = self.sidecar(leaf, &blind)?.plaintext("inbound_tcp");
        Ok(sample.inspecting_tls().strict("inbound_http"))
    }

    fn waypoint(&mut self) -> Result<Sample> {
        let leaf = self.cas.app.leaf().uri(&spiffe_id("edge", "waypoint"));
        let principal = spiffe_id("edge", "caller");
        let sample = Sample::local("both.yaml", &self.directory(leaf)?)?
            // With a key that does not exist.
            .configuration(&format!("{{{POLLING}, \"denies\": []}}"))
            .upstream("app", self.servers.http.port())
            .plaintext("inbound")
            .beside_another(None);
        // The sample has no cluster that leads to the admin interface.
        Ok(sample.filter_state("on_new_connection", "io.istio.peer_principal", &principal))
    }

    fn night(&mut self) -> Result<Sample> {
        let leaf = self.cas.app.leaf().uri(&spiffe_id("night", "batch"));
        let sample = Sample::local("http.yaml", &self.directory(leaf)?)?;
        Ok(sample.upstream("app", self.servers.http.port()))
    }

    fn sidecar(&mut self, leaf: LeafBuilder, configuration: &str) -> Result<Sample> {
        let sample = Sample::local("sidecar.yaml", &self.directory(leaf)?)?;
        Ok(sample
            .configuration(configuration)
            .upstream("app_http", self.servers.http.port())
            .upstream("app_tcp", self.servers.tcp.port()))
    }

    /// A directory with this leaf and the trust bundle of all.
    fn directory(&mut self, leaf: LeafBuilder) -> Result<PathBuf> {
        let directory = TempDir::new()?;
        leaf.issue()?.write_to(directory.path())?;
        self.cas.trust().write_to(directory.path())?;
        let path = directory.path().to_owned();
        self.directories.push(directory);
        Ok(path)
    }
}

impl Fleet {
    /// Issues the certificates and starts everything.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start() -> Result<Self> {
        let cas = Cas::issue()?;
        let clients = Clients::of(&cas)?;
        let mut plan = Plan::of(&cas)?;
        let [web, cart] = plan.sound()?;
        let proxies = [
            ("web", SOUND_NAMESPACE, web),
            ("cart", SOUND_NAMESPACE, cart),
            ("legacy", "legacy", plan.legacy()?),
            ("ledger", STRICT_NAMESPACE, plan.ledger()?),
            ("waypoint", "edge", plan.waypoint()?),
            ("night", "night", plan.night()?),
        ];
        let [web, cart, legacy, ledger, waypoint, night] = all_at_once(proxies)?;
        let Plan {
            servers,
            directories,
            ..
        } = plan;
        Ok(Self {
            cas,
            clients,
            web,
            cart,
            legacy,
            ledger,
            waypoint,
            night,
            _servers: servers,
            directories,
        })
    }

    /// Some traffic of everyone.
    ///
    /// # Errors
    /// If what should be answered is not.
    pub fn drive(&self) -> Result<()> {
        let application = Client::plaintext();
        for sidecar in [&self.web, &self.cart] {
            for _ in 0..3 {
                application.get(sidecar.port("outbound_http")?, "/", &[])?;
            }
            self.clients
                .sound
                .get(sidecar.port("inbound_http")?, "/", &[])?;
            self.clients
                .sound
                .tcp(sidecar.port("inbound_tcp")?)?
                .echo(b"hello")?;
        }
        let legacy = self.legacy.port("inbound_http")?;
        // First, while there is a name left.
        self.clients.stalled.get(legacy, "/", &[])?;
        for client in &self.clients.accepted {
            client.get(legacy, "/", &[])?;
        }
        for client in &self.clients.refused {
            // What its error is, depends on who closes first.
            drop(client.get(legacy, "/", &[]));
        }
        application.get(self.legacy.port("outbound_http")?, "/", &[])?;
        self.clients
            .sound
            .get(self.ledger.port("inbound_http")?, "/", &[])?;
        drop(application.get(self.ledger.port("inbound_http")?, "/", &[]));
        application
            .tcp(self.ledger.port("inbound_tcp")?)?
            .echo(b"hello")?;
        application.get(self.waypoint.port("inbound")?, "/", &[])?;
        self.clients
            .sound
            .get(self.night.port("inbound")?, "/", &[])?;
        Ok(())
    }

    /// Renews the leaf of `web`, as its agent would.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn renew(&self) -> Result<()> {
        let leaf = self.cas.app.leaf().uri(&spiffe_id("shop", "web")).issue()?;
        leaf.write_to(self.directories[0].path()).map(drop)
    }

    /// Takes the module away from the one proxy of its namespace.
    ///
    /// # Errors
    /// If it does not start again.
    pub fn lose_module(&mut self) -> Result<()> {
        self.night.lose_module()
    }

    /// The proxies.
    pub fn proxies(&self) -> [&Proxy; 6] {
        [
            &self.web,
            &self.cart,
            &self.legacy,
            &self.ledger,
            &self.waypoint,
            &self.night,
        ]
    }

    /// Starts a Prometheus that scrapes the fleet and evaluates the rules of `envoy-config/prometheus`
    /// every second. They are as they are, but for `for`, which is a second everywhere: nobody waits two
    /// days for a test. With them are the files of names that operators write.
    ///
    /// # Errors
    /// If the rules are not there, and as [`Prometheus::start`].
    pub fn prometheus(&self) -> Result<Prometheus> {
        let mut rules = self.names()?;
        for file in RULES {
            rules.push((file, impatient_rules(file)?));
        }
        let target = |proxy: &&Proxy| {
            let labels = json!({
                "cluster": CLUSTER, "namespace": proxy.namespace, "instance": proxy.name,
            });
            json!({ "targets": [proxy.envoy.admin().to_string()], "labels": labels })
        };
        let targets: Vec<Value> = self.proxies().iter().map(target).collect();
        let files: Vec<&str> = rules.iter().map(|(name, _)| *name).collect();
        let configuration = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": files,
            "scrape_configs": [{
                "job_name": JOB,
                "metrics_path": "/stats/prometheus",
                "static_configs": targets,
            }],
        });
        let files: Vec<(&str, &str)> = rules
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        // JSON is YAML.
        Prometheus::start(&configuration.to_string(), &files)
    }

    /// `rotation-names.example.yaml` and `strict-names.example.yaml`, with the names of this fleet: the
    /// rotation is one from `Old CA` to `App CA`, under a root that stays.
    fn names(&self) -> Result<Vec<(&'static str, String)>> {
        let root = label("Root CA", &self.cas.root);
        let rotation = rule_file("rotation-names.example.yaml")?
            .replace("Root_CA:0a0a0a0a", &root)
            .replace("Root_CA:1a1a1a1a", &root)
            .replace("Issuing_CA:0b0b0b0b", &label("Old CA", &self.cas.old))
            .replace("Issuing_CA:1b1b1b1b", &label("App CA", &self.cas.app));
        let strict = rule_file("strict-names.example.yaml")?;
        let strict = strict.replace("namespace: shop", &format!("namespace: {STRICT_NAMESPACE}"));
        Ok(vec![
            ("rotation-names.yaml", rotation),
            ("strict-names.yaml", strict),
        ])
    }
}

fn rule_file(name: &str) -> Result<String> {
    let path = workspace_root().join("envoy-config/prometheus").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The rules of a file of `envoy-config/prometheus`, with a second for every `for`.
///
/// # Errors
/// If there is no such file.
pub fn impatient_rules(file: &str) -> Result<String> {
    let hasty = |line: &str| match line.split_once("for: ") {
        Some((indentation, _)) if indentation.trim().is_empty() => {
            format!("{indentation}for: 1s\n")
        }
        _ => format!("{line}\n"),
    };
    Ok(rule_file(file)?.lines().map(hasty).collect())
}

/// V8 compiles the module for each: side by side, that takes half the time.
fn all_at_once<const N: usize>(
    proxies: [(&'static str, &'static str, Sample); N],
) -> Result<[Proxy; N]> {
    let started: Vec<Proxy> = thread::scope(|scope| {
        let threads = proxies.map(|(name, namespace, sample)| {
            scope.spawn(move || Proxy::start(name, namespace, sample))
        });
        let started = threads.into_iter();
        started
            .map(|thread| thread.join().expect("no panic"))
            .collect::<Result<_>>()
    })?;
    started
        .try_into()
        .map_err(|_| anyhow::anyhow!("as many as before"))
}

fn spiffe_id(namespace: &str, account: &str) -> String {
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
}

/// The CA's name as a label value.
fn label(common_name: &str, ca: &Ca) -> String {
    let common_name = common_name.replace(' ', "_");
    format!("{common_name}:{}", &ca.key_identifier()[..8])
}
