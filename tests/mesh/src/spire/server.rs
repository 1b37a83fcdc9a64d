//! A SPIRE server of one trust domain, and the agents of its nodes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testbed::envoy::free_port;

use super::process::{Process, write_script};
use super::{program, workload};
use crate::kubectl::run;
use crate::prometheus::http_get;
use crate::runner::logs_of;

/// What a server is configured with.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The scenario that it is for: its logs are there.
    pub scenario: &'a str,
    /// The name of the trust domain, without `spiffe://`.
    pub trust_domain: &'a str,
    /// How long its CAs live, as SPIRE writes it: `24h`.
    pub ca_ttl: &'a str,
    /// How long leaves live.
    pub svid_ttl: &'a str,
    /// A folder with `root.pem` and `root.key`: the root that its CAs are to stand under.
    pub upstream: Option<&'a Path>,
}

impl<'a> Settings<'a> {
    /// Its own root, and SPIRE's lifetimes.
    #[must_use]
    pub const fn of(scenario: &'a str) -> Self {
        Self {
            scenario,
            trust_domain: "example.org",
            ca_ttl: "24h",
            svid_ttl: "1h",
            upstream: None,
        }
    }
}

/// A running server. Dropping it ends it, and removes its files.
#[derive(Debug)]
pub struct Server {
    trust_domain: String,
    port: u16,
    logs: PathBuf,
    _process: Process,
    folder: TempDir,
}

/// The agent of a node. Dropping it ends it.
#[derive(Debug)]
pub struct Agent {
    /// To be stopped, if this is to be a node that lags.
    pub process: Process,
    /// Where Envoys ask for their secrets.
    pub socket: PathBuf,
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// If it is not ready within the deadline; the error has what it says.
    pub fn start(settings: &Settings<'_>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("spire-").tempdir()?;
        let logs = logs_of(settings.scenario).join(settings.trust_domain);
        fs::create_dir_all(&logs)?;
        let (port, health) = (free_port()?, free_port()?);
        let path = |name: &str| folder.path().join(name);
        let configuration = path("server.conf");
        fs::write(
            &configuration,
            configuration_of(settings, folder.path(), port, health),
        )?;
        let program = program("spire-server")?;
        let mut process = Process::start(
            &program,
            &["run", "-config", &text(&configuration)],
            &logs.join("server.log"),
        )?;
        fs::create_dir(path("bin"))?;
        let socket = format!("-socketPath '{}'", path("server.sock").display());
        write_script(&path("bin/spire-server"), &program, &socket)?;
        process.wait_until(|| http_get(&format!("http://127.0.0.1:{health}/ready")).map(drop))?;
        Ok(Self {
            trust_domain: settings.trust_domain.to_owned(),
            port,
            logs,
            _process: process,
            folder,
        })
    }

    /// Its trust domain, without `spiffe://`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The SPIFFE ID of that path.
    #[must_use]
    pub fn id(&self, path: &str) -> String {
        format!("spiffe://{}/{path}", self.trust_domain)
    }

    /// A folder for what a scenario writes. It is gone when the server is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where what its parts and workloads say goes.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The folder that has a `spire-server` which talks to this server, for the PATH.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.folder().join("bin")
    }

    /// Runs `spire-server` with these words, and returns what it prints.
    ///
    /// # Errors
    /// If it refuses.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        run(&text(&self.bin().join("spire-server")), words, None)
    }

    /// The identifier of the `active`, `prepared` or `old` authority.
    ///
    /// # Errors
    /// If there is none.
    pub fn authority(&self, state: &str) -> Result<String> {
        let all = self.command(&["localauthority", "x509", "show", "-output", "json"])?;
        let all: serde_json::Value = serde_json::from_str(&all)?;
        let identifier = all[state]["authority_id"].as_str();
        let identifier = identifier.filter(|identifier| !identifier.is_empty());
        identifier
            .map(str::to_owned)
            .with_context(|| format!("no {state} authority: {all}"))
    }

    /// Starts the agent of a node, on which these workloads may run, and these other trust domains be known.
    ///
    /// # Errors
    /// If it is not ready within the deadline; the error has what it says.
    pub fn node(&self, node: &str, workloads: &[&str], federated: &[&str]) -> Result<Agent> {
        let parent = self.id(&format!("node/{node}"));
        for name in workloads {
            // Before the agent, which so has them from the start.
            self.register(&parent, name, federated)?;
        }
        let said = self.command(&["token", "generate", "-spiffeID", &parent])?;
        let token = said.split_whitespace().last().context("no token")?;
        Agent::start(self, node, token)
    }

    fn register(&self, parent: &str, name: &str, federated: &[&str]) -> Result<()> {
        let selector = format!("unix:path:{}", workload::program(self, name)?.display());
        let id = self.id(name);
        let mut words = vec!["entry", "create", "-parentID", parent];
        words.extend(["-spiffeID", &id, "-selector", &selector]);
        let federated: Vec<String> = federated
            .iter()
            .map(|td| format!("spiffe://{td}"))
            .collect();
        for trust_domain in &federated {
            words.extend(["-federatesWith", trust_domain]);
        }
        self.command(&words).map(drop)
    }

    /// Trusts what the other trust domain trusts now, for the workloads that are federated with it.
    ///
    /// # Errors
    /// If one of the two refuses.
    pub fn trust(&self, other: &Self) -> Result<()> {
        let file = self.folder().join("other.json");
        fs::write(
            &file,
            other.command(&["bundle", "show", "-format", "spiffe"])?,
        )?;
        let id = format!("spiffe://{}", other.trust_domain);
        let set = [
            "bundle",
            "set",
            "-id",
            &id,
            "-format",
            "spiffe",
            "-path",
            &text(&file),
        ];
        self.command(&set).map(drop)
    }
}

impl Agent {
    fn start(server: &Server, node: &str, token: &str) -> Result<Self> {
        let path = |name: &str| server.folder().join(format!("{node}.{name}"));
        let (socket, configuration, health) = (path("sock"), path("conf"), free_port()?);
        // The kernel's limit, less the byte that ends it.
        ensure!(
            socket.as_os_str().len() < 108,
            "{}: too long for a socket; set TMPDIR to a shorter folder",
            socket.display()
        );
        let lines = agent_configuration(server, &socket, &path("data"), health);
        fs::write(&configuration, lines)?;
        let mut process = Process::start(
            &program("spire-agent")?,
            &["run", "-config", &text(&configuration), "-joinToken", token],
            &server.logs.join(format!("agent-{node}.log")),
        )?;
        process.wait_until(|| http_get(&format!("http://127.0.0.1:{health}/ready")).map(drop))?;
        Ok(Self { process, socket })
    }
}

/// SPIRE looks for new bundles and entries every five seconds; here every second.
fn configuration_of(settings: &Settings<'_>, folder: &Path, port: u16, health: u16) -> String {
    let Settings {
        trust_domain,
        ca_ttl,
        svid_ttl,
        upstream,
        ..
    } = settings;
    let folder = folder.display();
    let upstream = upstream.map_or_else(String::new, |root| {
        let root = root.display();
        format!(
            r#"UpstreamAuthority "disk" {{ plugin_data {{ cert_file_path = "{root}/root.pem", key_file_path = "{root}/root.key" }} }}"#
        )
    });
    format!(
        r#"
server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  socket_path = "{folder}/server.sock"
  trust_domain = "{trust_domain}"
  data_dir = "{folder}"
  ca_ttl = "{ca_ttl}"
  default_x509_svid_ttl = "{svid_ttl}"
  experimental {{ cache_reload_interval = "1s" }}
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3", connection_string = "{folder}/datastore.sqlite3" }} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  {upstream}
}}
{}
"#,
        health_checks(health)
    )
}

fn agent_configuration(server: &Server, socket: &Path, data: &Path, health: u16) -> String {
    let (port, trust_domain) = (server.port, &server.trust_domain);
    format!(
        r#"
agent {{
  trust_domain = "{trust_domain}"
  server_address = "127.0.0.1"
  server_port = "{port}"
  socket_path = "{}"
  data_dir = "{}"
  insecure_bootstrap = true
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{ discover_workload_path = true }} }}
}}
{}
"#,
        socket.display(),
        data.display(),
        health_checks(health)
    )
}

fn health_checks(port: u16) -> String {
    format!(
        r#"health_checks {{ listener_enabled = true, bind_address = "127.0.0.1", bind_port = "{port}", ready_path = "/ready" }}"#
    )
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
