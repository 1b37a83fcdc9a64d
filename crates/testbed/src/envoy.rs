//! A real Envoy as a child process.

use std::env;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, kill, tail};
use crate::stats::{self, eventually};
use crate::tools::find;
use crate::{Client, Stats};

/// The version that `make envoy` fetches, unless `ENVOY_VERSION` says otherwise.
pub const DEFAULT_VERSION: &str = "1.40.0";

/// Generous, for V8 compiles every module on a machine that is busy with other tests.
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A running Envoy. Dropping it kills the process and removes its files.
#[derive(Debug)]
pub struct Envoy {
    process: Child,
    admin: SocketAddr,
    directory: TempDir,
}

/// With this among its arguments, another can take over from an Envoy ([`Envoy::restart`]).
pub const RESTARTABLE: &str = "--use-dynamic-base-id";

impl Envoy {
    /// The Envoy to run: `ENVOY` if set, else the one that `make envoy` fetched for
    /// `ENVOY_VERSION` (default [`DEFAULT_VERSION`]).
    ///
    /// # Errors
    /// If there is none; the error names the command that fetches it.
    pub fn binary() -> Result<PathBuf> {
        let version = env::var("ENVOY_VERSION").unwrap_or_else(|_| DEFAULT_VERSION.to_owned());
        let command = format!("make envoy ENVOY_VERSION={version}");
        find("ENVOY", &format!("envoy-{version}"), &command)
    }

    /// Major and minor version of [`Envoy::binary`], for tests of what only newer ones can do.
    ///
    /// # Errors
    /// If there is none, or it does not tell.
    pub fn release() -> Result<(u32, u32)> {
        let output = Command::new(Self::binary()?).arg("--version").output()?;
        // `…/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
        let text = String::from_utf8_lossy(&output.stdout);
        let text = text
            .split_once("version: ")
            .map_or("", |(_, version)| version);
        let mut numbers = text.split('/').nth(1).unwrap_or_default().split('.');
        let mut number = || numbers.next()?.parse().ok();
        let release = number().zip(number());
        release.with_context(|| format!("no version in {text:?}"))
    }

    /// Starts Envoy with this bootstrap (YAML) and `concurrency` worker threads and waits until
    /// it is ready.
    ///
    /// # Errors
    /// If it exits or is not ready within a minute; the error ends with the tail of its log.
    pub fn start(bootstrap: &str, concurrency: u32) -> Result<Self> {
        Self::start_with(bootstrap, concurrency, &[])
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start_with(bootstrap: &str, concurrency: u32, arguments: &[&str]) -> Result<Self> {
        Self::start_program(&Self::binary()?, bootstrap, concurrency, arguments)
    }

    /// The same with another binary than [`Envoy::binary`], or under another name.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start_program(
        binary: &Path,
        bootstrap: &str,
        concurrency: u32,
        arguments: &[&str],
    ) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("envoy-").tempdir()?;
        let mut process = spawn(binary, directory.path(), bootstrap, concurrency, arguments)?;
        let admin = eventually(START_DEADLINE, || {
            Ok(match process.try_wait()? {
                Some(status) => Err(anyhow!("exited with {status}")),
                None => ready(directory.path()).map(Ok)?,
            })
        });
        match admin.and_then(|admin| admin) {
            Ok(admin) => Ok(Self {
                process,
                admin,
                directory,
            }),
            Err(error) => {
                kill(&mut process);
                Err(error.context(format!(
                    "Envoy did not start:\n{}",
                    tail(&read_log(directory.path()))
                )))
            }
        }
    }

    /// Starts another that takes over from this one, which was started with [`RESTARTABLE`]: a hot restart. It ends this
    /// one after `both`; it would end itself if this one were dropped before.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn restart(&self, bootstrap: &str, concurrency: u32, both: Duration) -> Result<Self> {
        let base = self.base_id().context("not restartable")?;
        let both = both.as_secs().to_string();
        #[rustfmt::skip]
        let arguments = [
            "--restart-epoch", "1", "--base-id", &base, "--drain-time-s", "1",
            "--parent-shutdown-time-s", &both,
        ];
        Self::start_with(bootstrap, concurrency, &arguments)
    }

    fn base_id(&self) -> Option<String> {
        let base = fs::read_to_string(self.directory.path().join(BASE_ID));
        base.ok().map(|base| base.trim().to_owned())
    }

    /// Checks a bootstrap (YAML) as `envoy --mode validate` does, without listening.
    ///
    /// # Errors
    /// If Envoy refuses it; the error is what Envoy printed.
    pub fn validate(bootstrap: &str) -> Result<()> {
        let directory = tempfile::Builder::new().prefix("envoy-").tempdir()?;
        let output = Command::new(Self::binary()?)
            .args([
                "--mode",
                "validate",
                "--log-level",
                "warning",
                "--config-path",
            ])
            .arg(write_bootstrap(directory.path(), bootstrap)?)
            .output()?;
        if !output.status.success() {
            bail!("refused:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// The address of the admin interface.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process identifier, to read the process's CPU time or memory.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The memory that the system has given to the process, in bytes: Envoy's own and that of all VMs.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn resident_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.context("no VmRSS")?.parse::<u64>()? * 1024)
    }

    /// The body of a GET request to the admin interface.
    ///
    /// # Errors
    /// If it does not answer with 200.
    pub fn admin_get(&self, path: &str) -> Result<String> {
        admin_get(self.admin, path)
    }

    /// The port that the listener of this name is bound to, where the bootstrap says 0.
    ///
    /// # Errors
    /// If there is no such listener.
    pub fn listener_port(&self, listener: &str) -> Result<u16> {
        let all: Value = serde_json::from_str(&self.admin_get("/listeners?format=json")?)?;
        let statuses = all["listener_statuses"]
            .as_array()
            .context("no listeners")?;
        let status = statuses.iter().find(|status| status["name"] == listener);
        let status = status.with_context(|| format!("no listener {listener:?} in {all}"))?;
        let port = &status["local_address"]["socket_address"]["port_value"];
        Ok(port.as_u64().context("no port")?.try_into()?)
    }

    /// A scrape of `/stats/prometheus`.
    ///
    /// # Errors
    /// If the admin interface does not answer, or its answer is malformed.
    pub fn stats(&self) -> Result<Stats> {
        Stats::parse(&self.admin_get("/stats/prometheus")?)
    }

    /// All that Envoy and its modules have logged so far.
    pub fn log(&self) -> String {
        read_log(self.directory.path())
    }

    /// Waits for a log line that contains `text` and returns it.
    ///
    /// # Errors
    /// After [`stats::DEADLINE`]; the error shows the log's tail.
    pub fn wait_for_log(&self, text: &str) -> Result<String> {
        eventually(stats::DEADLINE, || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains(text));
            let missing = || format!("{text:?} was not logged:\n{}", tail(&log));
            line.map(str::to_owned).with_context(missing)
        })
    }

    /// Kills the process; its ports are free then.
    pub fn kill(&mut self) {
        kill(&mut self.process);
    }

    /// Ends the process in an orderly manner and returns its whole log.
    ///
    /// # Errors
    /// If the admin interface does not answer or the process goes on for ten seconds; it is
    /// killed then.
    pub fn stop(mut self) -> Result<String> {
        let mut admin = Client::plaintext().http(self.admin.port())?;
        admin.request("POST", "/quitquitquit", &[])?;
        eventually(STOP_DEADLINE, || {
            self.process.try_wait()?.context("still running")
        })?;
        Ok(self.log())
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        kill(&mut self.process);
        // An Envoy that is killed leaves it behind.
        if let Some(base) = self.base_id() {
            let _ = fs::remove_file(format!("/dev/shm/envoy_shared_memory_{base}0"));
        }
    }
}

/// Where an Envoy writes by what another finds it.
const BASE_ID: &str = "base-id";

/// A port of 127.0.0.1 that nothing listens on. Each call returns another one, in all processes that run: who has got it
/// holds the UDP port of the same number.
///
/// # Errors
/// If none is free.
pub fn free_port() -> Result<u16> {
    // Below the ports that the system gives to outgoing connections, lest one of those take it
    // before its user has bound it; and elsewhere for each process that tests run in.
    const FIRST: u16 = 15_500;
    const COUNT: u16 = 16_000;
    static CALLS: AtomicU16 = AtomicU16::new(0);
    static HELD: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    (0..COUNT)
        .map(|_| {
            let call = CALLS.fetch_add(1, Ordering::Relaxed);
            FIRST + start.wrapping_mul(37).wrapping_add(call) % COUNT
        })
        .find(|port| {
            let address = ("127.0.0.1", *port);
            let (Ok(held), Ok(_)) = (UdpSocket::bind(address), TcpListener::bind(address)) else {
                return false;
            };
            HELD.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(held);
            true
        })
        .context("no free port")
}

fn spawn(
    binary: &Path,
    directory: &Path,
    bootstrap: &str,
    concurrency: u32,
    arguments: &[&str],
) -> Result<Child> {
    let base_id = directory.join(BASE_ID).display().to_string();
    let restart: &[&str] = match arguments {
        _ if arguments.contains(&RESTARTABLE) => &["--base-id-path", &base_id],
        _ if arguments.contains(&"--restart-epoch") => &[],
        // Hot restart needs shared memory.
        _ => &["--disable-hot-restart"],
    };
    Command::new(binary)
        .arg("--config-path")
        .arg(write_bootstrap(directory, bootstrap)?)
        .arg("--admin-address-path")
        .arg(directory.join("admin"))
        .arg("--concurrency")
        .arg(concurrency.to_string())
        .args(["--log-level", "info"])
        .args(restart)
        // At info it lists every extension there is.
        .args(["--component-log-level", "main:warning"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(directory.join("log"))?)
        .spawn()
        .with_context(|| format!("{}: cannot run", binary.display()))
}

fn write_bootstrap(directory: &Path, bootstrap: &str) -> Result<PathBuf> {
    let path = directory.join("envoy.yaml");
    fs::write(&path, bootstrap)?;
    Ok(path)
}

/// The admin address, once Envoy answers there that it is ready and its workers accept.
fn ready(directory: &Path) -> Result<SocketAddr> {
    let admin: SocketAddr = fs::read_to_string(directory.join("admin"))?.parse()?;
    admin_get(admin, "/ready")?;
    // Ready comes first: for a moment, connections are still refused.
    let started = admin_get(admin, "/stats?filter=listener_manager.workers_started")?;
    ensure!(started.trim_end().ends_with(": 1"), "workers not started");
    Ok(admin)
}

fn admin_get(admin: SocketAddr, path: &str) -> Result<String> {
    let response = Client::plaintext().get(admin.port(), path, &[])?;
    ensure!(response.status == 200, "{path}: {}", response.status);
    Ok(response.text())
}

fn read_log(directory: &Path) -> String {
    process::read_log(&directory.join("log"))
}
